"""Postgres lost, and made anew from the lake: every table equals, keys are never given twice, the stream brings the rest."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from reco.ingest.v1.event_pb2 import Event, EventContext
from reco.ingest.v1.ingest_service_pb2 import (
    DeleteItemsRequest,
    UpsertItemsRequest,
    UpsertUsersRequest,
    WriteEventsRequest,
)
from reco.ingest.v1.item_pb2 import Item
from reco.ingest.v1.user_pb2 import User

from ingest import catalogue
from ingest.lake.changes import ChangesExport
from ingest.lake.files import open_lake
from ingest.lake.verify import verify
from ingest.rebuild import postgres as rebuilding
from ingest.rebuild.postgres import Restored, rebuild_postgres
from ingest.schema import MIGRATIONS
from runtime.clock import SystemClock
from runtime.errors import StateError
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool
from runtime.stores import EmbeddedPostgres
from tests.integration.ingest.harness import Ingest
from tests.integration.ingest.samples import event, items

TABLES: dict[str, LiteralString] = {
    "items": "SELECT to_jsonb(t) - 'changed_xid' FROM items t ORDER BY key",
    "users": "SELECT to_jsonb(t) FROM users t ORDER BY id",
    "events": "SELECT to_jsonb(t) FROM events t ORDER BY event_id, day",
}


async def tables(pool: Pool) -> dict[str, list[tuple[Any, ...]]]:
    async with pool.connection() as connection:
        return {name: await (await connection.execute(query)).fetchall() for name, query in TABLES.items()}


async def export(ingest: Ingest) -> None:
    """What upkeep does every minute."""
    files = open_lake(ingest.settings.lake_url, ingest.settings.data_dir)
    for kind in ("items", "users"):
        await ChangesExport(files, kind, lambda: None).export(ingest.pool)


@pytest.fixture
async def filled(ingest: Ingest) -> Ingest:
    """Items and users that were created, changed and deleted, and events with everything that an event can have."""
    stub = ingest.stub
    await stub.UpsertItems(items(40))
    await stub.UpsertItems(
        UpsertItemsRequest(items=[Item(id="item-3", title='"quoted", and\nbroken', tags=["a,b", "ü"])])
    )
    await stub.DeleteItems(DeleteItemsRequest(item_ids=["item-4"]))
    await stub.UpsertUsers(UpsertUsersRequest(users=[User(id=f"user-{n}") for n in range(5)]))
    await stub.UpsertUsers(
        UpsertUsersRequest(
            users=[User(id="user-1", numeric_attributes={"age": 40.5}, string_attributes={"plan": "a"})]
        )
    )
    odd = Event(
        value=-2.5,
        surface='x"y,\n',
        attribution_token="\\N",
        context=EventContext(device="phone", locale="de"),
    )
    odd.context.attributes["n"].number_value = 1.5
    sent = [event() for _ in range(300)]
    for each in sent[::3]:
        each.MergeFrom(odd)
    async with ingest.consumers():
        await stub.WriteEvents(WriteEventsRequest(events=sent))
        await ingest.caught_up()
    await export(ingest)
    return ingest


@asynccontextmanager
async def lost(system: Ingest, server: EmbeddedPostgres) -> AsyncIterator[Ingest]:
    """The same system with a database that was just made."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = server.database_url(name)
        settings = system.settings.model_copy(update={"postgres_url": url})
        async with open_pool(url) as pool:
            await migrate(pool, MIGRATIONS)
            yield Ingest(system.stub, system.redis, pool, settings)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def anew(filled: Ingest, postgres_server: EmbeddedPostgres) -> AsyncIterator[Ingest]:
    """The filled system, whose database was lost."""
    async with lost(filled, postgres_server) as system:
        yield system


async def rebuild(ingest: Ingest) -> Restored:
    return await rebuild_postgres(ingest.settings, ingest.redis, ingest.pool, SystemClock())


async def one(pool: Pool, query: LiteralString) -> Any:
    async with pool.connection() as connection:
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


async def test_a_database_that_was_lost_equals_in_every_table(filled: Ingest, anew: Ingest) -> None:
    before = await tables(filled.pool)

    done = await rebuild(anew)

    assert (done.items, done.items_bare, done.users, done.events, done.days) == (40, 0, 5, 300, 1)
    after = await tables(anew.pool)
    for name, rows in before.items():
        assert after[name] == rows, name
    assert await one(anew.pool, "SELECT count(*) FROM events_default") == 0


async def test_run_again_it_changes_nothing_and_what_was_changed_since_stays(
    filled: Ingest, anew: Ingest
) -> None:
    await rebuild(anew)
    await catalogue.upsert_items(anew.pool, [Item(id="item-5", title="newer")])
    before = await tables(anew.pool)

    done = await rebuild(anew)

    assert (done.items, done.users, done.events) == (0, 0, 0)
    assert await tables(anew.pool) == before


async def test_new_items_get_keys_that_nobody_had(
    filled: Ingest, anew: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of items that only events tell of, for their change was not exported when the database was lost."""

    async def nothing(*_: object) -> int:
        return 0

    monkeypatch.setattr(ChangesExport, "export", nothing)
    await filled.stub.UpsertItems(UpsertItemsRequest(items=[Item(id="late", title="Late")]))
    late_key = await one(filled.pool, "SELECT key FROM items WHERE id = 'late'")
    async with filled.consumers():
        await filled.stub.WriteEvents(WriteEventsRequest(events=[event(item_id="late")]))
        await filled.caught_up()

    done = await rebuild(anew)
    await catalogue.upsert_items(anew.pool, [Item(id="new", title="New")])

    assert done.items_bare == 1
    assert await one(anew.pool, "SELECT key FROM items WHERE id = 'late'") == late_key
    assert await one(anew.pool, "SELECT key FROM items WHERE id = 'new'") > late_key
    history = await one(filled.pool, "SELECT max(number) FROM item_changes WHERE id <> 'late'")
    assert await one(anew.pool, "SELECT min(number) FROM item_changes") > history


async def test_a_database_that_is_lost_twice_equals_again(
    anew: Ingest, postgres_server: EmbeddedPostgres
) -> None:
    """What was changed after the first time counts, though transactions and their numbers began anew."""
    await rebuild(anew)
    await catalogue.upsert_items(anew.pool, [Item(id="item-5", title="newer"), Item(id="new", title="New")])
    await catalogue.upsert_users(anew.pool, [User(id="user-2", numeric_attributes={"age": 7})])
    await export(anew)
    before = await tables(anew.pool)

    async with lost(anew, postgres_server) as again:
        assert (await rebuild(again)).items == 41
        after = await tables(again.pool)

    assert after == before
    assert not verify(open_lake(anew.settings.lake_url, anew.settings.data_dir)).faults


async def test_events_that_postgres_alone_lacks_are_added(filled: Ingest) -> None:
    """Its sink was behind when Redis was lost."""
    before = await tables(filled.pool)
    async with filled.pool.connection() as connection:
        assert (await connection.execute("DELETE FROM events WHERE event_id LIKE '%7'")).rowcount == 30

    assert (await rebuild(filled)).events == 30

    assert await tables(filled.pool) == before


async def test_what_the_lake_has_not_yet_comes_again_through_the_stream(
    filled: Ingest, anew: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres had acknowledged events when it was lost that the lake had not."""
    sent = [event() for _ in range(50)]
    with monkeypatch.context() as patch:
        patch.setattr(
            "ingest.sinks.lake.LakeSink._create", lambda *_: (_ for _ in ()).throw(StateError(0, "slow"))
        )  # type: ignore[arg-type]
        async with filled.consumers():
            await filled.stub.WriteEvents(WriteEventsRequest(events=sent))
            while await one(filled.pool, "SELECT count(*) FROM events") < 350:
                pass
    before = await tables(filled.pool)

    assert (await rebuild(anew)).events == 300
    async with anew.consumers():
        await anew.caught_up()

    assert await tables(anew.pool) == before


class Killed(Exception):  # noqa: N818 -- it is no error
    """Where a process would have ended."""


@pytest.mark.parametrize("step", ["_insert", "_insert_events"])
async def test_a_rebuild_that_was_killed_is_run_again(
    filled: Ingest, anew: Ingest, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.rebuild.limits.BATCH_ROWS", 100)
    monkeypatch.setattr("ingest.rebuild.limits.TAIL_ROWS", 10)
    insert, left = getattr(rebuilding, step), 2

    def killed(*arguments: Any) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return int(insert(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, step, killed)
        with pytest.raises(Killed):
            await rebuild(anew)

    await rebuild(anew)

    assert await tables(anew.pool) == await tables(filled.pool)


async def test_a_database_with_other_items_is_refused(filled: Ingest, anew: Ingest) -> None:
    await catalogue.upsert_items(anew.pool, [Item(id="item-7", title="First come")])

    with pytest.raises(StateError, match="'item-7' with the key 1"):
        await rebuild(anew)


async def test_days_that_postgres_does_not_keep_stay_in_the_lake(filled: Ingest, anew: Ingest) -> None:
    class Later(SystemClock):
        def time_s(self) -> float:
            return super().time_s() + 100 * 86_400

    done = await rebuild_postgres(anew.settings, anew.redis, anew.pool, Later())

    assert (done.items, done.events, done.days) == (40, 0, 0)
