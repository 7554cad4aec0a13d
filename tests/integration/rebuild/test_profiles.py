"""Redis lost whole, and made anew: every profile has the same bytes, and what is written meanwhile counts once."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1.event_pb2 import Event, EventType
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest, WriteEventsResponse
from redis.asyncio import Redis

from ingest.lag import lags
from ingest.lease import Lease
from ingest.rebuild import profiles as rebuilding
from ingest.rebuild.profiles import Rebuilt, rebuild_profiles
from ingest.sinks.lake import LakeSink
from ingest.stream import stream_key
from profiles.codec import decode
from profiles.offsets import parse_token
from profiles.store import profile_key
from profiles.trending import read_trending
from runtime.clock import SystemClock
from runtime.errors import StateError
from tests.integration.ingest.harness import PARTITIONS, Ingest
from tests.integration.ingest.samples import items

ITEMS = 400
USERS = 30
TYPES = [
    EventType.EVENT_TYPE_VIEW,
    EventType.EVENT_TYPE_PURCHASE,
    EventType.EVENT_TYPE_DISLIKE,
    EventType.EVENT_TYPE_RATING,
]


def events(count: int, seed: int, name: str = "e") -> list[Event]:
    """Of USERS, from one event to hundreds each, of the last month, in no order."""
    chosen, now_s, made = random.Random(seed), int(time.time()), []
    for number in range(count):
        kind = chosen.choice(TYPES)
        made.append(
            Event(
                id=f"{name}-{number}", item_id=f"item-{chosen.randrange(ITEMS)}", type=kind,
                user_id=f"user-{int(USERS * chosen.random() ** 3)}",
                value=chosen.uniform(1, 5) if kind == EventType.EVENT_TYPE_RATING else None,
                event_time=Timestamp(seconds=now_s - chosen.randrange(30 * 86_400)),
            )
        )  # fmt: skip
    return made


async def write(ingest: Ingest, sent: list[Event]) -> list[WriteEventsResponse]:
    return [
        await ingest.stub.WriteEvents(WriteEventsRequest(events=sent[start : start + 500]))
        for start in range(0, len(sent), 500)
    ]


async def rebuild(ingest: Ingest) -> Rebuilt:
    return await rebuild_profiles(ingest.settings, ingest.redis, ingest.pool, SystemClock())


async def profiles_of(redis: Redis) -> dict[bytes, bytes]:
    keys = [key async for key in redis.scan_iter(profile_key("*"))]
    return {key: await redis.get(key) for key in keys}


@pytest.fixture
async def filled(ingest: Ingest) -> Ingest:
    """A system that has counted some thousands of events."""
    await ingest.stub.UpsertItems(items(ITEMS))
    async with ingest.consumers():
        await write(ingest, events(3_000, seed=1))
        await ingest.caught_up()
    return ingest


async def test_redis_that_was_lost_has_the_same_profiles_again(filled: Ingest) -> None:
    before = await profiles_of(filled.redis)
    trending = await read_trending(filled.redis, time.time(), 100)
    await filled.redis.flushall()

    done = await rebuild(filled)

    assert await profiles_of(filled.redis) == before
    assert len(before) == done.profiles > 20
    assert (done.events, done.left_out, done.marks) == (3_000, 0, 3_000)
    keys, scores = await read_trending(filled.redis, time.time(), 100)
    assert keys.tolist() == trending[0].tolist()
    assert scores.tolist() == pytest.approx(trending[1].tolist(), rel=1e-4)
    assert 0 < await filled.redis.ttl(next(iter(before))) <= filled.settings.profile_ttl_days * 86_400


async def test_what_was_accepted_before_is_still_a_duplicate_and_the_stream_goes_on_behind_it(
    filled: Ingest,
) -> None:
    sent = events(100, seed=2, name="late")
    async with filled.consumers():
        [answer] = await write(filled, sent)
        await filled.caught_up()
    before = await profiles_of(filled.redis)
    await filled.redis.flushall()
    assert (await rebuild(filled)).raised == PARTITIONS

    [again] = await write(filled, sent)
    [more] = await write(filled, events(100, seed=3, name="more"))
    async with filled.consumers():
        await filled.caught_up()

    assert (again.duplicate_count, again.offset) == (100, answer.offset)
    ends, later = parse_token(answer.offset), parse_token(more.offset)
    assert all(later[partition] > ends[partition] for partition in ends)
    after = await profiles_of(filled.redis)
    assert counted(after) == counted(before) + 100


def counted(found: dict[bytes, bytes]) -> int:
    return sum(decode(value).event_count for value in found.values())


async def test_events_written_before_and_during_the_rebuild_count_once(
    filled: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consumers run all the time: they have begun some profiles anew, and take the leases again when it is done."""
    expected = counted(await profiles_of(filled.redis))
    await filled.redis.flushall()
    put, meanwhile = rebuilding.store.put, events(200, seed=5, name="meanwhile")

    async def put_late(*arguments: object) -> None:
        if meanwhile:
            await write(filled, meanwhile)
            meanwhile.clear()
        await put(*arguments)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(rebuilding.store, "put", put_late)
    async with filled.consumers():
        await write(filled, events(200, seed=4, name="before"))
        await filled.caught_up()
        await write(filled, events(200, seed=6, name="waiting"))
        await rebuild(filled)
        assert not meanwhile
        await filled.caught_up()

    assert counted(await profiles_of(filled.redis)) == expected + 600


async def test_a_batch_that_was_under_way_counts_once(filled: Ingest) -> None:
    """A consumer has written half of a batch and hangs; it acknowledges when the rebuild is done."""
    await filled.redis.flushall()
    for partition in range(PARTITIONS):
        await filled.redis.xgroup_create(stream_key(partition), "profile", id="0", mkstream=True)
    await write(filled, events(100, seed=7, name="hung"))
    taken = {
        partition: (await filled.redis.xreadgroup("profile", "profile", {stream_key(partition): ">"}))[0][1]
        for partition in range(PARTITIONS)
    }

    await rebuild(filled)
    for partition, entries in taken.items():
        await filled.redis.xack(stream_key(partition), "profile", *(place for place, _ in entries))
    async with filled.consumers():
        await filled.caught_up()

    assert counted(await profiles_of(filled.redis)) == 3_100


async def test_a_rebuild_that_was_killed_is_run_again(
    filled: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await profiles_of(filled.redis)
    await filled.redis.flushall()
    monkeypatch.setattr("ingest.rebuild.limits.BATCH_ROWS", 500)
    monkeypatch.setattr("ingest.rebuild.limits.WRITE_COUNT", 2)
    put, left = rebuilding.store.put, 3

    async def killed(*arguments: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise asyncio.CancelledError
        await put(*arguments)  # type: ignore[arg-type]  # passed through

    with monkeypatch.context() as patch:
        patch.setattr(rebuilding.store, "put", killed)
        with pytest.raises(asyncio.CancelledError):
            await rebuild(filled)
    assert 0 < len(await profiles_of(filled.redis)) < len(before)

    await rebuild(filled)

    assert await profiles_of(filled.redis) == before


async def test_events_that_the_lake_has_not_yet_come_from_postgres(filled: Ingest) -> None:
    before = await profiles_of(filled.redis)
    lost = sorted((filled.settings.data_dir / "lake").rglob("*.parquet"))
    for path in lost:
        path.unlink()
    await filled.redis.flushall()

    await rebuild(filled)

    assert await profiles_of(filled.redis) == before


async def behind(ingest: Ingest, sink: str) -> int:
    return sum((await lags(ingest.redis, PARTITIONS))[sink].values())


async def test_events_that_the_lake_never_got_count_though_it_has_gone_on_since(
    filled: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lake's sink was behind when Redis was lost: Postgres alone has these."""

    async def waits(*_: object) -> None:
        raise StateError(0, "the lake waits")  # type: ignore[arg-type]  # any reason

    with monkeypatch.context() as patch:
        patch.setattr(LakeSink, "write", waits)
        async with filled.consumers():
            await write(filled, events(100, seed=8, name="behind"))
            while await behind(filled, "profile") or await behind(filled, "postgres"):  # noqa: ASYNC110 -- Redis knows
                await asyncio.sleep(0.01)
    await filled.redis.flushall()
    async with filled.consumers():
        await write(filled, events(100, seed=9, name="since"))
        await filled.caught_up()

    await rebuild(filled)

    assert counted(await profiles_of(filled.redis)) == 3_200


async def test_a_rebuild_that_lost_a_lease_says_so(filled: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    put = rebuilding.store.put

    async def stolen(*arguments: object) -> None:
        await Lease(filled.redis, 0, "profile", "other", SystemClock()).seize()
        await asyncio.sleep(0)
        await put(*arguments)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(rebuilding.store, "put", stolen)
    monkeypatch.setattr("ingest.limits.LEASE_RENEW_S", 0.0)
    with pytest.raises(StateError, match="lease"):
        await rebuild(filled)


async def test_a_healthy_system_stays_as_it_is(filled: Ingest) -> None:
    before = await profiles_of(filled.redis)

    assert (await rebuild(filled)).raised == 0

    assert await profiles_of(filled.redis) == before
