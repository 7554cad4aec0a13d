"""Chores: work on the stores that one consumer process does for all, now and then. Who has the lease does it.

A lease may be lost in the middle of a chore, so each of them bears that two are at it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from ingest import limits
from ingest.lease import Lease
from runtime.clock import Clock
from runtime.errors import RecoError


@dataclass(frozen=True)
class Chore:
    """Work to do every so often; first when a process has got the lease. RecoErrors are told, and it is tried again."""

    name: str
    every_s: float
    work: Callable[[], Awaitable[object]]


async def do_chores(chores: Sequence[Chore], lease: Lease, clock: Clock, stop: asyncio.Event) -> None:
    """Does what is due, one at a time, whenever this process has the lease, until `stop`."""
    task = asyncio.create_task(_turns(chores, lease, clock))
    await stop.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await lease.release()


async def _turns(chores: Sequence[Chore], lease: Lease, clock: Clock) -> None:
    due_s = {chore.name: float("-inf") for chore in chores}
    while True:
        for chore in chores:
            if clock.monotonic_s() >= due_s[chore.name] and await _holds(lease):
                is_done = await _do(chore, lease)
                due_s[chore.name] = clock.monotonic_s() + (
                    chore.every_s if is_done else min(chore.every_s, limits.CHORE_RETRY_S)
                )
        await asyncio.sleep(limits.LEASE_RENEW_S)
        await _holds(lease)  # it is kept between chores, so that they stay where they are


async def _do(chore: Chore, lease: Lease) -> bool:
    """Does a chore, and renews the lease meanwhile; whether it is done."""
    renewing = asyncio.create_task(_renew(lease))
    try:
        await chore.work()
        return True
    except RecoError as error:
        structlog.get_logger().warning(
            "a chore failed; it is tried again", chore=chore.name, error=error.message
        )
    except Exception:
        structlog.get_logger().exception("unexpected error", chore=chore.name)
    finally:
        renewing.cancel()
    return False


async def _renew(lease: Lease) -> None:
    while True:
        await asyncio.sleep(limits.LEASE_RENEW_S)
        await _holds(lease)


async def _holds(lease: Lease) -> bool:
    try:
        return await lease.hold()
    except RecoError:
        return False
