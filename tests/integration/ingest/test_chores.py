"""Chores are done by who has the lease, one at a time, again after a failure, and a stop does not wait for a long one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from ingest import limits
from ingest.chores import Chore, do_chores
from ingest.lease import Lease
from runtime.clock import SystemClock
from runtime.errors import store_unavailable

WAIT_S_MAX = 30.0
SELDOM_S = 3600.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns come soon."""
    monkeypatch.setattr(limits, "LEASE_RENEW_S", 0.01)
    monkeypatch.setattr(limits, "CHORE_RETRY_S", 0.01)


class Process:
    """One that does chores, and what it has done."""

    def __init__(self, redis: Redis, name: str, log: list[str], fails: int = 0) -> None:
        self.name, self._log, self._fails = name, log, fails
        self.stop = asyncio.Event()
        lease = Lease(redis, 0, "upkeep", name, SystemClock())
        chores = [Chore("first", SELDOM_S, self._first), Chore("second", 0.01, self._second)]
        self.task = asyncio.create_task(do_chores(chores, lease, SystemClock(), self.stop))

    async def end(self) -> None:
        self.stop.set()
        await self.task

    async def _first(self) -> None:
        self._log.append(f"{self.name} first")
        if self._fails:
            self._fails -= 1
            raise [store_unavailable("postgres", OSError()), KeyError("ours")][self._fails % 2]

    async def _second(self) -> None:
        self._log.append(f"{self.name} second")


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not is_so():  # noqa: ASYNC110 -- a log is a list
            await asyncio.sleep(0.001)


async def test_one_process_does_all_and_another_goes_on_when_it_ends(redis: Redis) -> None:
    log: list[str] = []
    one = Process(redis, "one", log)
    await until(lambda: len(log) > 2)
    other = Process(redis, "other", log)
    seen = len(log)
    await until(lambda: len(log) > seen + 5)
    assert {entry.split()[0] for entry in log} == {"one"}
    assert log.count("one first") == 1

    await one.end()
    await until(lambda: "other second" in log)
    await other.end()

    assert log.count("other first") == 1


async def test_a_chore_that_fails_is_done_again_soon_and_the_others_go_on(redis: Redis) -> None:
    log: list[str] = []
    process = Process(redis, "one", log, fails=2)

    await until(lambda: log.count("one first") == 3)
    seen = len(log)
    await until(lambda: len(log) > seen + 3)
    await process.end()

    assert log.count("one first") == 3
    assert "one second" in log


async def test_a_stop_does_not_wait_for_a_long_chore_and_the_lease_is_kept_meanwhile(redis: Redis) -> None:
    started, clock = asyncio.Event(), SystemClock()

    async def long() -> None:
        started.set()
        await asyncio.Event().wait()

    lease, stop = Lease(redis, 0, "upkeep", "one", clock), asyncio.Event()
    task = asyncio.create_task(do_chores([Chore("long", SELDOM_S, long)], lease, clock, stop))
    await started.wait()
    renewals = await _hold_count(redis)
    async with asyncio.timeout(WAIT_S_MAX):
        while await _hold_count(redis) < renewals + 3:
            pass

    stop.set()
    async with asyncio.timeout(WAIT_S_MAX):
        await task

    assert await Lease(redis, 0, "upkeep", "other", clock).hold()


async def _hold_count(redis: Redis) -> int:
    """How many scripts the store has run: a lease is held by one."""
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))
