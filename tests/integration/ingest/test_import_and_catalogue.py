"""ImportEvents, UpsertItems, DeleteItems, UpsertUsers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1.event_pb2 import Event
from reco.ingest.v1.ingest_service_pb2 import (
    DeleteItemsRequest,
    ImportEventsRequest,
    ImportEventsResponse,
    UpsertItemsRequest,
    UpsertUsersRequest,
    WriteEventsRequest,
)
from reco.ingest.v1.item_pb2 import Availability, Item
from reco.ingest.v1.user_pb2 import User

from ingest.limits import REJECTED_SAMPLES_MAX
from tests.integration.ingest.harness import Ingest, info_of, stream_length
from tests.integration.ingest.samples import event, items


async def chunks(*batches: Sequence[Event]) -> AsyncIterator[ImportEventsRequest]:
    for batch in batches:
        yield ImportEventsRequest(events=batch)


async def run_import(ingest: Ingest, *batches: Sequence[Event]) -> ImportEventsResponse:
    return await ingest.stub.ImportEvents(chunks(*batches))  # type: ignore[misc]  # the stub serves both kinds


async def rows(ingest: Ingest, query: str) -> list[tuple[Any, ...]]:
    async with ingest.pool.connection() as connection:
        return await (await connection.execute(query)).fetchall()  # type: ignore[arg-type]  # a literal of ours


async def test_import_writes_the_good_and_counts_and_samples_the_bad(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    good = [event() for _ in range(150)]
    bad = [event(item_id="") for _ in range(30)]

    answer = await run_import(ingest, good[:100], [*bad, *good[100:]], [good[0], event(item_id="nobody")])

    assert (answer.accepted_count, answer.duplicate_count, answer.rejected_count) == (150, 1, 31)
    assert len(answer.rejected_samples) == REJECTED_SAMPLES_MAX
    assert answer.rejected_samples[0].event_id == bad[0].id
    assert "events[100]: item_id" in answer.rejected_samples[0].message
    assert answer.offset
    assert await stream_length(ingest) == 150


async def test_import_of_nothing_answers_zero(ingest: Ingest) -> None:
    assert (await run_import(ingest)) == ImportEventsResponse()


async def test_import_of_a_chunk_that_is_too_large_is_refused(ingest: Ingest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await run_import(ingest, [event() for _ in range(1001)])

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert info_of(raised.value).metadata["field"] == "events"


async def test_upsert_counts_created_and_updated_and_the_last_duplicate_wins(ingest: Ingest) -> None:
    first = await ingest.stub.UpsertItems(items(3))
    again = [Item(id="item-1", title="old"), Item(id="item-9"), Item(id="item-1", title="new")]

    second = await ingest.stub.UpsertItems(UpsertItemsRequest(items=again))

    assert (first.created_count, first.updated_count) == (3, 0)
    assert (second.created_count, second.updated_count) == (1, 1)
    assert await rows(ingest, "SELECT title FROM items WHERE id = 'item-1'") == [("new",)]


async def test_an_item_keeps_its_key_and_upserting_again_uses_none_up(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items(3))
    before = await rows(ingest, "SELECT id, key FROM items ORDER BY id")
    for _ in range(5):
        await ingest.stub.UpsertItems(items(3))

    await ingest.stub.UpsertItems(items(4))

    after = await rows(ingest, "SELECT id, key FROM items ORDER BY id")
    assert after[:3] == before
    assert after[3] == ("item-3", 4)


async def test_an_item_is_stored_whole(ingest: Ingest) -> None:
    sent = Item(
        id="x", title="Title", categories=["Drama", "War"], tags=["t"], numeric_attributes={"year": 1995.0},
        string_attributes={"brand": "b"}, create_time=Timestamp(seconds=1, nanos=5000),
        expire_time=Timestamp(seconds=4_000_000_000), availability=Availability.AVAILABILITY_UNAVAILABLE,
        media_url="https://example.com/x",
    )  # fmt: skip

    await ingest.stub.UpsertItems(UpsertItemsRequest(items=[sent]))

    columns = "title, categories, tags, numeric_attributes, string_attributes, available, media_url, deleted"
    times = "extract(epoch FROM create_time)::text, extract(epoch FROM expire_time)::text"
    assert await rows(ingest, f"SELECT {columns}, {times} FROM items") == [
        ("Title", ["Drama", "War"], ["t"], {"year": 1995.0}, {"brand": "b"}, False, "https://example.com/x", False,
         "1.000005", "4000000000.000000"),
    ]  # fmt: skip


async def test_a_create_time_that_is_left_out_stays_as_it_was(ingest: Ingest) -> None:
    created = Timestamp(seconds=1000)
    await ingest.stub.UpsertItems(UpsertItemsRequest(items=[Item(id="x", create_time=created)]))
    await ingest.stub.UpsertUsers(UpsertUsersRequest(users=[User(id="x", create_time=created)]))

    await ingest.stub.UpsertItems(UpsertItemsRequest(items=[Item(id="x")]))
    await ingest.stub.UpsertUsers(UpsertUsersRequest(users=[User(id="x")]))

    for table in ("items", "users"):
        assert await rows(ingest, f"SELECT extract(epoch FROM create_time)::int FROM {table}") == [(1000,)]


async def test_every_change_of_an_item_sets_its_transaction(ingest: Ingest) -> None:
    query = "SELECT changed_xid::text::bigint FROM items WHERE id = 'item-0'"
    await ingest.stub.UpsertItems(items(2))
    [(created,)] = await rows(ingest, query)
    await ingest.stub.UpsertItems(items(1))
    [(updated,)] = await rows(ingest, query)
    await ingest.stub.DeleteItems(DeleteItemsRequest(item_ids=["item-0"]))
    [(deleted,)] = await rows(ingest, query)

    assert created < updated < deleted


async def test_deleting_counts_what_was_there_and_keeps_key_and_events(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items(3))
    deletion = DeleteItemsRequest(item_ids=["item-0", "item-0", "item-1", "nobody"])

    first = await ingest.stub.DeleteItems(deletion)
    second = await ingest.stub.DeleteItems(deletion)
    written = await ingest.stub.WriteEvents(WriteEventsRequest(events=[event(item_id="item-0")]))
    returned = await ingest.stub.UpsertItems(items(1))

    assert (first.deleted_count, first.missing_count) == (2, 1)
    assert (second.deleted_count, second.missing_count) == (0, 3)
    assert written.accepted_count == 1
    assert (returned.created_count, returned.updated_count) == (0, 1)
    assert await rows(ingest, "SELECT key, deleted FROM items WHERE id = 'item-0'") == [(1, False)]


async def test_users_are_created_and_replaced_whole(ingest: Ingest) -> None:
    users = [
        User(id="a", numeric_attributes={"age": 30}),
        User(id="b"),
        User(id="b", string_attributes={"x": "y"}),
    ]

    first = await ingest.stub.UpsertUsers(UpsertUsersRequest(users=users))
    second = await ingest.stub.UpsertUsers(UpsertUsersRequest(users=[User(id="a"), User(id="c")]))

    assert (first.created_count, first.updated_count) == (2, 0)
    assert (second.created_count, second.updated_count) == (1, 1)
    assert await rows(ingest, "SELECT id, numeric_attributes, string_attributes FROM users ORDER BY id") == [
        ("a", {}, {}), ("b", {}, {"x": "y"}), ("c", {}, {}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Item(id="a\0b"), "items[1]"),
        (Item(id="a", string_attributes={"x": "\0"}), "items[1]"),
        (Item(id="a", create_time=Timestamp(seconds=1 << 50)), "items[1].create_time"),
    ],
)
async def test_an_item_that_can_t_be_stored_refuses_the_request_whole(
    ingest: Ingest, item: Item, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ingest.stub.UpsertItems(UpsertItemsRequest(items=[Item(id="good"), item]))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert info_of(raised.value).metadata["field"] == field
    assert await rows(ingest, "SELECT id FROM items") == []
