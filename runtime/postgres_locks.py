"""Changing tables that others use: short waits for locks, tried again and again, so that nobody queues behind a change for long.

Who waits for a table's lock makes all that come after him wait as well, readers too. So a change gives up soon, lets the
queue pass, and comes back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import structlog
from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, LockNotAvailable
from reco.errors.v1 import error_reason_pb2

from runtime.errors import DependencyError

LOCK_WAIT_MS_MAX = 2_000  # of one try: callers behind it wait as long, and theirs is 5 s for a connection
TRIES_MAX = 60  # with the pauses some ten minutes: a backup's or an analyst's transaction ends within them
PAUSE_S_MIN = 0.5
PAUSE_S_MAX = 10.0  # the queue that has formed is served long before

ADVISORY_POLL_S = 0.1

Done = TypeVar("Done")


async def patiently(what: str, change: Callable[[], Awaitable[Done]], tries_max: int = TRIES_MAX) -> Done:
    """Makes `change`, again and again while another holds its locks. It must do nothing where it fails.

    Raises DependencyError after `tries_max`.
    """
    pause_s = PAUSE_S_MIN
    for tries_left in reversed(range(tries_max)):
        try:
            return await change()
        except (LockNotAvailable, DeadlockDetected) as error:
            if not tries_left:
                raise _locked(what, tries_max) from error
            structlog.get_logger().warning("a lock is held by another; it is tried again", what=what)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)
    raise AssertionError("tries_max is at least 1")


@asynccontextmanager
async def short_locks(connection: AsyncConnection[Any]) -> AsyncIterator[None]:
    """A transaction whose waits for locks are short. Raises LockNotAvailable: `patiently` tries again."""
    async with connection.transaction():
        await connection.execute(cast(Any, f"SET LOCAL lock_timeout = {LOCK_WAIT_MS_MAX}"))
        yield


@asynccontextmanager
async def advisory_lock(connection: AsyncConnection[Any], key: int, wait_s_max: float) -> AsyncIterator[None]:
    """Holds a lock of the session, in autocommit. Raises DependencyError when others hold it for `wait_s_max`.

    It is asked for now and then: a session that waits for it in one statement has a snapshot, which CREATE INDEX CONCURRENTLY
    waits for, of whoever has the lock; neither would go on.
    """
    end_s = time.monotonic() + wait_s_max
    while not await _try(connection, key):
        if time.monotonic() > end_s:
            raise _locked("the lock of migrations", 1)
        await asyncio.sleep(ADVISORY_POLL_S)
    try:
        yield
    finally:
        if not connection.broken:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (key,))


async def _try(connection: AsyncConnection[Any], key: int) -> bool:
    row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (key,))).fetchone()
    return bool(row and row[0])


def _locked(what: str, tries: int) -> DependencyError:
    message = f"{what} did not get its lock in {tries} tries: a transaction holds it (see pg_stat_activity); end that, then start again"
    return DependencyError(
        error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE,
        message,
        {"store": "postgres", "retry_delay_ms": "10000"},
    )
