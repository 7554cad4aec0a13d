"""PostgreSQL: one way to connect, with bounds, and its errors told as ours."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncServerCursor
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests
from reco.errors.v1 import error_reason_pb2

from runtime.errors import OverloadError, RecoError, StateError, store_unavailable

CONNECTIONS_MAX = 8  # of one process; six processes stay below the server's hundred
CONNECT_WAIT_S_MAX = 5
POOL_WAIT_S_MAX = (
    5.0  # for a free connection; also how long an outage is waited out before the caller is told
)
POOL_WAITING_MAX = 256  # callers in line; more are told to come back
RECONNECT_S_MAX = 1.0  # of one try to come back; the next caller starts another, so pauses never grow
STATEMENT_WAIT_MS_MAX = 30_000  # our statements take milliseconds; a thousand rows under load a second
DISK_RETRY_DELAY_MS = 5000
# Which database this is, as an expression. The timeline changes where a backup is restored or a standby takes over: the same
# transaction numbers may mean other transactions then.
DATABASE = """(select concat_ws(':', system_identifier, timeline_id, d.oid)
  from pg_control_system(), pg_control_checkpoint(), pg_database d where d.datname = current_database())"""

# An outage is told by the errors below, each time it matters; the pool would tell it again for each connection it tries.
logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)

Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]


def make_pool(url: str) -> Pool:
    """A pool that is not open yet. Raises StateError for an empty URL."""
    if not url:
        message = "RECO_POSTGRES_URL is not set: set it, or start everything with `reco up`"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, {"store": "postgres"})
    options = f"-c statement_timeout={STATEMENT_WAIT_MS_MAX} -c timezone=UTC"
    return AsyncConnectionPool(
        url,
        kwargs={"connect_timeout": CONNECT_WAIT_S_MAX, "options": options},
        min_size=1, max_size=CONNECTIONS_MAX, timeout=POOL_WAIT_S_MAX, max_waiting=POOL_WAITING_MAX, reconnect_timeout=RECONNECT_S_MAX,
        check=AsyncConnectionPool.check_connection, open=False,
    )  # fmt: skip


@asynccontextmanager
async def open_pool(url: str, wait_s: float = 30.0) -> AsyncIterator[Pool]:
    """A pool of connections to `url`, closed at the end. Raises DependencyError when none comes within `wait_s`."""
    pool = make_pool(url)
    try:
        with postgres_errors():
            await pool.open(wait=True, timeout=wait_s)
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def server_cursor(connection: AsyncConnection[Any], name: str) -> AsyncIterator[AsyncServerCursor[Any]]:
    """A cursor that holds its rows in the server. Closed at the end, also where the connection ends while it is being closed."""
    cursor = connection.cursor(name=name)
    try:
        yield cursor
    finally:
        try:
            await cursor.close()
        except BaseException:
            if connection.closed:
                await cursor.close()  # asks nobody any more
            raise


@contextmanager
def postgres_errors() -> Iterator[None]:
    """Around statements: what goes wrong with the store leaves as a RecoError. Errors in the data pass through."""
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded):
        raise  # the last: a value too long for an index, though psycopg counts it among the store's troubles
    except (psycopg.Error, PoolTimeout, TooManyRequests, OSError) as error:
        raise told(error) from error


def told(error: BaseException) -> RecoError:
    """The error of a statement as a RecoError: out of reach, out of disk, or a statement of ours that is wrong."""
    if isinstance(error, psycopg.errors.DiskFull):
        metadata = {"store": "postgres", "retry_delay_ms": str(DISK_RETRY_DELAY_MS)}
        message = "PostgreSQL's disk is full; free space, then retry"
        return OverloadError(error_reason_pb2.ERROR_REASON_STORAGE_FULL, message, metadata)
    if isinstance(error, psycopg.ProgrammingError):
        return RecoError(
            error_reason_pb2.ERROR_REASON_INTERNAL, f"our fault: PostgreSQL refused a statement: {error}"
        )
    return store_unavailable("postgres", error)
