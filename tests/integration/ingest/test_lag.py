"""How far behind each sink is: in entries, and in the age of the oldest of them by Redis' clock."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from ingest.consumer_main import metrics_port
from ingest.lag import Lag, read_lags
from ingest.stream import SINKS, StreamReader, stream_key
from runtime.settings import Settings

AGES_S = (600, 400, 200)
BUSY_S_MAX = 60  # between adding and looking


async def add(redis: Redis) -> None:
    """One entry of each age in partition 0."""
    for age_s in AGES_S:
        await redis.xadd(stream_key(0), {"e": b""}, id=f"{int((time.time() - age_s) * 1000)}-0")


async def lag_of(redis: Redis, sink: str) -> tuple[int, float]:
    """Entries, and which of AGES_S the age is, give or take what a busy machine takes."""
    lag = (await read_lags(redis, 1))[sink][0]
    return lag.entries, next((age_s for age_s in AGES_S if age_s - 1 <= lag.age_s <= age_s + BUSY_S_MAX), 0)


async def test_a_sink_that_has_never_come_is_behind_by_all_there_is(redis: Redis) -> None:
    await add(redis)

    assert [await lag_of(redis, sink) for sink in SINKS] == [(3, 600)] * 3


async def test_what_was_read_and_not_acknowledged_counts_from_its_oldest(redis: Redis) -> None:
    await add(redis)
    reader = StreamReader(redis, 0, "lake")
    batch = await reader.read(2)
    assert await lag_of(redis, "lake") == (3, 600)

    await reader.acknowledge(batch[:1])
    assert await lag_of(redis, "lake") == (2, 400)
    await reader.acknowledge(batch[1:])

    assert await lag_of(redis, "lake") == (1, 200)
    assert await lag_of(redis, "profile") == (3, 600)


async def test_a_sink_that_has_all_is_not_behind_however_old_its_last_entry_is(redis: Redis) -> None:
    await add(redis)
    reader = StreamReader(redis, 0, "lake")
    await reader.acknowledge(await reader.read(10))

    assert (await read_lags(redis, 1))["lake"] == {0: Lag(0, 0.0)}


async def test_a_partition_without_a_stream_is_not_behind(redis: Redis) -> None:
    assert await read_lags(redis, 1) == {sink: {0: Lag(0, 0.0)} for sink in SINKS}


@pytest.mark.parametrize(("index", "port"), [(0, 7111), (1, 7161), (31, 7191)])
def test_each_consumer_of_a_machine_has_a_metrics_port_of_its_own(index: int, port: int) -> None:
    assert metrics_port(Settings(consumer_index=index)) == port
