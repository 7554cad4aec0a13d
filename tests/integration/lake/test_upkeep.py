"""The lake's upkeep in the consumer: by who holds what, and what fails is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from ingest import limits
from ingest.chores import do_chores
from ingest.lake import upkeep
from ingest.lake.compact import SETTLE_S, Compacted
from ingest.lake.files import LakeFiles
from ingest.lake.listing import parts_of
from ingest.lake.manifest import newest
from ingest.lake.names import ITEMS
from ingest.lake.upkeep import LakeUpkeep
from ingest.lease import Lease
from runtime.clock import ManualClock
from runtime.errors import StateError, store_unavailable
from runtime.postgres import Pool
from tests.integration.lake.samples import HOUR, LATER_S, events, fill, names
from tests.integration.lake.test_changes import NEW_ITEMS

WAIT_S_MAX = 30.0
AFTER_A_DAY = 24


def make(lake: LakeFiles, pool: Pool, redis: Redis, keep_days: int = 0, holder: str = "me") -> LakeUpkeep:
    """Of a process that carries partitions 0 and 1, at a time when the samples' hours are finished."""
    clock = ManualClock(LATER_S)
    leases = {partition: Lease(redis, partition, "lake", holder, clock) for partition in (0, 1)}
    return LakeUpkeep(
        lake, pool, leases, Lease(redis, 0, "upkeep", holder, clock), keep_days, clock, asyncio.Event()
    )


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what other tasks do."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not await done():  # noqa: ASYNC110 -- the stores know, no event of ours does
            await asyncio.sleep(0.01)


async def test_what_is_held_is_compacted_and_the_rest_left_to_others(
    lake: LakeFiles, pool: Pool, redis: Redis
) -> None:
    for partition in (0, 1):
        await fill(lake, events([1]), events([2]), partition=partition)
    kept = make(lake, pool, redis)

    assert not await kept.compact_events()
    await kept.leases[1].hold()
    assert await kept.compact_events()

    assert names(lake) == ["part-0-1-1.parquet", "part-0-2-2.parquet", "part-1-1-2.parquet"]


async def test_nothing_is_compacted_before_it_has_settled_by_the_clock(
    lake: LakeFiles, pool: Pool, redis: Redis
) -> None:
    await fill(lake, events([1]), events([2]))
    kept = make(lake, pool, redis)
    kept.clock._now_s = (HOUR + 1) * 3_600.0 + SETTLE_S - 1  # type: ignore[attr-defined]  # a ManualClock
    await kept.leases[0].hold()
    await kept.compact_events()

    assert len(names(lake)) == 2


async def test_a_day_that_is_too_old_goes_after_a_manifest(lake: LakeFiles, pool: Pool, redis: Redis) -> None:
    await fill(lake, events([1]), events([2], hour=AFTER_A_DAY))
    kept = make(lake, pool, redis, keep_days=1)
    kept.clock.advance((AFTER_A_DAY + 24) * 3_600.0)  # type: ignore[attr-defined]  # a ManualClock
    await kept.lease.hold()

    await kept.write_manifest()

    found = newest(lake)
    assert len(parts_of(lake)) == 1
    assert found is not None
    assert len(found.files) == 2


async def test_a_process_that_lost_its_lease_removes_nothing(
    lake: LakeFiles, pool: Pool, redis: Redis
) -> None:
    await fill(lake, events([1]))
    kept = make(lake, pool, redis, keep_days=1)
    kept.clock.advance(AFTER_A_DAY * 10 * 3_600.0)  # type: ignore[attr-defined]  # a ManualClock

    with pytest.raises(StateError, match="lease"):
        await kept.write_manifest()

    assert len(parts_of(lake)) == 1


async def test_all_of_it_runs_beside_each_other_and_ends_at_once(
    lake: LakeFiles, pool: Pool, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LEASE_RENEW_S", 0.01)
    await fill(lake, events([1]), events([2]))
    async with pool.connection() as connection:
        await connection.execute(NEW_ITEMS, [["a"]])
    kept = make(lake, pool, redis)
    await kept.leases[0].hold()

    async def is_done() -> bool:
        return len(names(lake)) == 1 and bool(newest(lake)) and bool(parts_of(lake, ITEMS))

    async with asyncio.timeout(WAIT_S_MAX), asyncio.TaskGroup() as tasks:
        tasks.create_task(kept.keep_compact())
        tasks.create_task(do_chores(kept.chores(), kept.lease, kept.clock, kept.stop))
        await until(is_done)
        kept.stop.set()


async def test_a_compaction_that_fails_is_told_and_tried_again(
    lake: LakeFiles, pool: Pool, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHORE_RETRY_S", 0.01)
    await fill(lake, events([1]), events([2]))
    compact = upkeep.compact
    failures = [store_unavailable("lake", OSError()), KeyError("ours")]

    def fail_first(*arguments: Any) -> Compacted:
        if failures:
            raise failures.pop()
        return compact(*arguments)

    monkeypatch.setattr(upkeep, "compact", fail_first)
    kept = make(lake, pool, redis)
    await kept.leases[0].hold()

    async def is_done() -> bool:
        return len(names(lake)) == 1

    async with asyncio.timeout(WAIT_S_MAX), asyncio.TaskGroup() as tasks:
        tasks.create_task(kept.keep_compact())
        await until(is_done)
        kept.stop.set()


async def test_a_compaction_ends_at_its_next_file_when_the_process_stops(
    lake: LakeFiles, pool: Pool, redis: Redis
) -> None:
    await fill(lake, events([1]), events([2]))
    kept = make(lake, pool, redis)
    await kept.leases[0].hold()
    kept.stop.set()

    with pytest.raises(StateError):
        await kept.compact_events()

    assert len(names(lake)) == 2
