"""All tasks of the consumer at once: a process that has lost a partition, and does not know it yet, takes nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ingest import limits
from ingest.consumer_main import makers
from ingest.events import StreamEvent
from ingest.lag import lags
from ingest.lease import Lease
from ingest.sinks.lake import LakeSink
from ingest.sinks.postgres import PostgresSink
from ingest.stream import SINKS, Entry, StreamWriter, lease_key, stream_key
from runtime import metrics
from runtime.clock import ManualClock
from runtime.errors import StateError
from tests.integration.ingest.harness import CAUGHT_UP_WAIT_S_MAX, Ingest
from tests.integration.ingest.samples import accepted

STOLEN, KEPT = 0, 1


async def append(ingest: Ingest, partition: int, name: str, count: int) -> None:
    ids = [f"{name}{i}" for i in range(count)]
    events = [(each, accepted(each, i).SerializeToString()) for i, each in enumerate(ids)]
    await StreamWriter(ingest.redis).append(partition, events)


async def steal(ingest: Ingest, partition: int) -> None:
    for sink in SINKS:
        await ingest.redis.set(lease_key(partition, sink), "another process")


async def give_back(ingest: Ingest, partition: int) -> None:
    await ingest.redis.delete(*(lease_key(partition, sink) for sink in SINKS))


def retries() -> dict[str, float]:
    return {sink: metrics.SINK_RETRIES_TOTAL.labels(sink)._value.get() for sink in SINKS}


async def each_sink_has_tried(ingest: Ingest, before: dict[str, float]) -> None:
    """Returns when each sink was refused the stolen partition, or took it."""
    async with asyncio.timeout(CAUGHT_UP_WAIT_S_MAX):
        while any(  # noqa: ASYNC110 -- Redis knows, no event of ours does
            retries()[sink] == before[sink] and by[STOLEN]
            for sink, by in (await lags(ingest.redis, 2)).items()
        ):
            await asyncio.sleep(0.01)


async def test_consumers_that_lost_a_partition_unnoticed_read_nothing_of_it_until_it_is_given_back(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LakeSink, "fill_s", 0.0)
    with monkeypatch.context() as unnoticed:
        unnoticed.setattr(limits, "LEASE_RENEW_S", 3_600.0)
        unnoticed.setattr(limits, "LEASE_TTL_S", 7_200.0)
        await append(ingest, STOLEN, "before", 2)
        await append(ingest, KEPT, "kept", 2)
        async with ingest.consumers():
            await ingest.caught_up()
            before = retries()
            await steal(ingest, STOLEN)

            await append(ingest, STOLEN, "after", 3)
            await append(ingest, KEPT, "later", 3)
            await each_sink_has_tried(ingest, before)

            behind = {sink: by[STOLEN] for sink, by in (await lags(ingest.redis, 2)).items()}
            assert behind == dict.fromkeys(SINKS, 3)
            for sink in SINKS:
                assert (await ingest.redis.xpending(stream_key(STOLEN), sink))["pending"] == 0, sink

            await give_back(ingest, STOLEN)
            unnoticed.undo()
            await ingest.caught_up()


async def test_the_lake_of_the_consumer_writes_nothing_when_its_lease_ran_out(ingest: Ingest) -> None:
    clock = ManualClock()
    lease = Lease(ingest.redis, 0, "lake", "me", clock)
    sink = makers(ingest.settings, ingest.redis, ingest.pool)["lake"](0, lease)
    events = [StreamEvent(Entry(7 << 16, b""), accepted("e7", 7))]
    assert await lease.hold()
    clock.advance(limits.LEASE_TTL_S)

    with pytest.raises(StateError, match="lease"):
        await sink.write(events)
    assert not list(ingest.settings.data_dir.rglob("*.parquet*"))

    assert await lease.hold()
    await sink.write(events)
    assert len(list(ingest.settings.data_dir.rglob("*.parquet"))) == 1


async def test_a_process_that_hangs_in_one_write_loses_that_unit_to_another_and_nothing_is_doubled(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds_s in (("LEASE_TTL_S", 4.0), ("ADOPT_AFTER_S", 1.0)):  # as in life, only sooner
        monkeypatch.setattr(limits, name, seconds_s)
    write, hangs, goes_on = PostgresSink.write, asyncio.Event(), asyncio.Event()

    async def hang_once(sink: PostgresSink, events: Sequence[StreamEvent]) -> None:
        if not hangs.is_set():
            hangs.set()
            await goes_on.wait()
        await write(sink, events)

    monkeypatch.setattr(PostgresSink, "write", hang_once)
    async with ingest.consumers(), ingest.consumers():
        await append(ingest, 0, "first", 5)
        await asyncio.wait_for(hangs.wait(), CAUGHT_UP_WAIT_S_MAX)
        await append(ingest, 0, "later", 5)
        await append(ingest, 1, "other", 5)
        await ingest.caught_up()
        goes_on.set()

    async with ingest.pool.connection() as connection:
        rows = await (await connection.execute("SELECT event_id FROM events ORDER BY 1")).fetchall()
    assert [row[0] for row in rows] == [
        f"{name}{i}" for name in ("first", "later", "other") for i in range(5)
    ]
