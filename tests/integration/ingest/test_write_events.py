"""WriteEvents over a real socket: each rule, each outcome."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reco.errors.v1 import error_reason_pb2
from reco.ingest.v1.attribute_pb2 import AttributeValue
from reco.ingest.v1.event_pb2 import AcceptedEvent, Event, EventContext, EventType
from reco.ingest.v1.ingest_service_pb2 import EventOutcome, WriteEventsRequest

from ingest import writer
from ingest.keys import ItemKeys
from ingest.lag import lags
from ingest.stream import StreamWriter, stream_key
from profiles.offsets import make_token, parse_token
from profiles.subjects import partition_of
from runtime.clock import ManualClock
from runtime.errors import OverloadError
from runtime.rpc import MESSAGE_BYTES_MAX
from tests.integration.ingest.harness import PARTITIONS, Ingest, info_of, stream_length
from tests.integration.ingest.samples import event, items

ACCEPTED, DUPLICATE, REJECTED = (
    EventOutcome.STATUS_ACCEPTED, EventOutcome.STATUS_DUPLICATE, EventOutcome.STATUS_REJECTED,
)  # fmt: skip


VIOLATIONS = [
    ({"id": ""}, "events[1].id", "string.min_len"),
    ({"id": "x" * 65}, "events[1].id", "string.max_len"),
    ({"user_id": ""}, "events[1]", "event.subject"),
    ({"user_id": "x" * 129}, "events[1].user_id", "string.max_len"),
    ({"session_id": "x" * 129}, "events[1].session_id", "string.max_len"),
    ({"item_id": ""}, "events[1].item_id", "string.min_len"),
    ({"item_id": "x" * 129}, "events[1].item_id", "string.max_len"),
    ({"type": EventType.EVENT_TYPE_UNSPECIFIED}, "events[1].type", "enum.not_in"),
    ({"type": 99}, "events[1].type", "enum.defined_only"),
    ({"type": EventType.EVENT_TYPE_RATING}, "events[1]", "event.rating_value"),
    ({"type": EventType.EVENT_TYPE_RATING, "value": 5.5}, "events[1]", "event.rating_value"),
    ({"type": EventType.EVENT_TYPE_CUSTOM}, "events[1]", "event.custom_type"),
    ({"custom_type": "x"}, "events[1]", "event.custom_type"),
    ({"type": EventType.EVENT_TYPE_CUSTOM, "custom_type": "No!"}, "events[1].custom_type", "string.pattern"),
    ({"value": float("nan")}, "events[1].value", "double.finite"),
    ({"event_time": Timestamp(seconds=-1)}, "events[1].event_time", "timestamp.gte_lt"),
    ({"event_time": Timestamp(seconds=4260211200)}, "events[1].event_time", "timestamp.gte_lt"),
    ({"attribution_token": "x" * 513}, "events[1].attribution_token", "string.max_len"),
    ({"surface": "x" * 65}, "events[1].surface", "string.max_len"),
    ({"context": EventContext(country="at")}, "events[1].context.country", "string.pattern"),
    ({"context": EventContext(attributes={"a": AttributeValue()})}, "events[1].context.attributes['a'].kind", "required"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "field", "rule"), VIOLATIONS)
async def test_a_broken_rule_refuses_the_request_whole_naming_field_and_rule(
    ingest: Ingest, fields: dict[str, object], field: str, rule: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ingest.stub.WriteEvents(WriteEventsRequest(events=[event(), event(**fields)]))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    info = info_of(raised.value)
    assert (info.reason, info.domain) == ("FIELD_INVALID", "reco.dev")
    assert (info.metadata["field"], info.metadata["rule"]) == (field, rule)
    assert info.metadata["description"]
    assert await stream_length(ingest) == 0


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_of_a_wrong_size_is_refused(ingest: Ingest, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ingest.stub.WriteEvents(WriteEventsRequest(events=[event() for _ in range(count)]))

    assert info_of(raised.value).metadata["field"] == "events"


async def test_an_oversized_message_is_refused(ingest: Ingest) -> None:
    huge = event(attribution_token="x" * MESSAGE_BYTES_MAX)

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ingest.stub.WriteEvents(WriteEventsRequest(events=[huge]))

    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await stream_length(ingest) == 0


async def test_what_the_state_forbids_is_rejected_event_by_event(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    future = Timestamp(seconds=int(time.time()) + 400)
    sent = [
        event(), event(item_id="nobody"), event(event_time=future), event(user_id="a\0b"),
        event(event_time=Timestamp(seconds=5, nanos=-1)), event(),
    ]  # fmt: skip

    answer = await ingest.stub.WriteEvents(WriteEventsRequest(events=sent))

    assert (answer.accepted_count, answer.duplicate_count, answer.rejected_count) == (2, 0, 4)
    rejected = answer.outcomes[1:5]
    assert [outcome.status for outcome in answer.outcomes] == [ACCEPTED, *[REJECTED] * 4, ACCEPTED]
    assert [outcome.reason for outcome in rejected] == [
        error_reason_pb2.ERROR_REASON_ITEM_UNKNOWN, error_reason_pb2.ERROR_REASON_EVENT_TIME_IN_FUTURE,
        error_reason_pb2.ERROR_REASON_FIELD_INVALID, error_reason_pb2.ERROR_REASON_FIELD_INVALID,
    ]  # fmt: skip
    assert "events[1].item_id" in rejected[0].message
    assert not any(outcome.offset for outcome in rejected)
    assert await stream_length(ingest) == 2


async def test_within_the_allowed_skew_is_accepted(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    ahead = Timestamp(seconds=int(time.time()) + 200)

    answer = await ingest.stub.WriteEvents(WriteEventsRequest(events=[event(event_time=ahead)]))

    assert answer.accepted_count == 1


async def test_an_id_sent_again_answers_its_first_offset(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    first = event()
    before = await ingest.stub.WriteEvents(WriteEventsRequest(events=[first]))

    again = await ingest.stub.WriteEvents(WriteEventsRequest(events=[event(), first]))

    assert (again.accepted_count, again.duplicate_count) == (1, 1)
    assert again.outcomes[1].status == DUPLICATE
    assert again.outcomes[1].offset == before.outcomes[0].offset == before.offset
    assert await stream_length(ingest) == 2


async def test_an_id_twice_in_a_batch_counts_once_even_for_two_users(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    users = [
        "a",
        next(
            user
            for user in "bcdefgh"
            if partition_of(f"u:{user}", PARTITIONS) != partition_of("u:a", PARTITIONS)
        ),
    ]
    sent = [event(id="same", user_id=user) for user in [*users, users[0]]]

    answer = await ingest.stub.WriteEvents(WriteEventsRequest(events=sent))

    assert [outcome.status for outcome in answer.outcomes] == [ACCEPTED, DUPLICATE, DUPLICATE]
    assert len({outcome.offset for outcome in answer.outcomes}) == 1
    assert await stream_length(ingest) == 1


async def test_events_of_a_user_keep_their_order_and_the_offset_covers_all(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    sent = [event() for _ in range(300)]

    answer = await ingest.stub.WriteEvents(WriteEventsRequest(events=sent))

    ends = parse_token(answer.offset)
    stored: dict[str, list[str]] = {}
    for partition in range(PARTITIONS):
        rows = await ingest.redis.xrange(stream_key(partition))
        for _, fields in rows:
            accepted = AcceptedEvent.FromString(fields[b"e"])
            stored.setdefault(accepted.event.user_id, []).append(accepted.event.id)
        assert make_token({partition: ends[partition]}).endswith(rows[-1][0].decode())
    assert stored == {
        user: [each.id for each in sent if each.user_id == user] for user in {each.user_id for each in sent}
    }


async def test_an_event_without_a_time_gets_the_time_of_acceptance(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    sent = Event(id="t", user_id="u", item_id="item-3", type=EventType.EVENT_TYPE_VIEW)

    await ingest.stub.WriteEvents(WriteEventsRequest(events=[sent]))

    [(_, fields)] = await ingest.redis.xrange(stream_key(partition_of("u:u", PARTITIONS)))
    accepted = AcceptedEvent.FromString(fields[b"e"])
    assert accepted.event.event_time == accepted.accept_time
    assert abs(accepted.accept_time.seconds - time.time()) < 60
    assert accepted.item_key > 0


async def test_a_full_stream_refuses_with_a_delay_and_takes_nothing(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    small = writer.EventWriter(
        StreamWriter(ingest.redis, entries_max=5), ItemKeys(ingest.pool), 1, ManualClock()
    )
    await small.write([event() for _ in range(5)])

    with pytest.raises(OverloadError, match="retry after") as raised:
        await small.write([event()])

    assert raised.value.reason == error_reason_pb2.ERROR_REASON_STREAM_FULL
    assert raised.value.metadata == {"partition": "0", "length_max": "5", "retry_delay_ms": "1000"}
    assert await ingest.redis.xlen(stream_key(0)) == 5


async def test_redis_at_its_memory_limit_says_so_and_acknowledges_nothing(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    await ingest.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ingest.stub.WriteEvents(WriteEventsRequest(events=[event()]))
    finally:
        await ingest.redis.config_set("maxmemory", 0)

    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info_of(raised.value).reason == "STORAGE_FULL"
    assert info_of(raised.value).metadata["store"] == "redis"
    assert await stream_length(ingest) == 0


async def test_lags_of_streams_that_nobody_reads_are_their_lengths(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    await ingest.stub.WriteEvents(WriteEventsRequest(events=[event() for _ in range(40)]))

    behind = await lags(ingest.redis, PARTITIONS)

    assert [sum(by_partition.values()) for by_partition in behind.values()] == [40, 40, 40]


async def test_many_entries_in_one_millisecond_keep_distinct_offsets(ingest: Ingest) -> None:
    far_ms = 4_000_000_000_000  # the store's clock is behind its last entry: it would number on for ever
    await ingest.redis.xadd(stream_key(0), {"e": b""}, id=f"{far_ms}-64500")
    stream = StreamWriter(ingest.redis)

    places = [
        place for n in range(3) for place in await stream.append(0, [(f"{n}-{i}", b"x") for i in range(5)])
    ]

    assert [place.offset for place in places] == [(far_ms + 1) << 16 | i for i in range(15)]
