"""Brings a database's schema forward while others use it: each NNNN_name.sql once, in order, under a lock; never back.

A step is a transaction of its own, with short waits for locks (runtime/postgres_locks.py): what was applied stays, and a run
that was cut off goes on where it stood. A step whose first line is `-- concurrently` is the one statement CREATE INDEX
CONCURRENTLY IF NOT EXISTS, outside a transaction: what a kill left of the index is dropped, and it is made again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from psycopg import AsyncConnection, sql
from reco.errors.v1 import error_reason_pb2

from runtime.errors import StateError
from runtime.postgres import Pool, postgres_errors
from runtime.postgres_locks import advisory_lock, patiently, short_locks

ADVISORY_LOCK = 0x7265636F  # "reco": whoever else starts now waits here
OTHERS_WAIT_S_MAX = 60.0  # for the others' migrations
# An index over all events takes its time; the pool's bound is for everyday statements.
STEP_WAIT_MS_MAX = 3_600_000
# An index that is made concurrently waits for transactions, with nobody behind it.
CONCURRENT_WAIT_MS_MAX = 600_000

assert OTHERS_WAIT_S_MAX * 1000 < STEP_WAIT_MS_MAX
FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
CONCURRENTLY = "-- concurrently\n"
_INDEX = re.compile(r"^CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+) ON ", re.MULTILINE)

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, apply_time timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True)
class Migration:
    """One step forward."""

    number: int
    name: str
    sha256: str
    statements: str

    @property
    def index(self) -> str | None:
        """The index that the step makes concurrently, if it is such a step. Raises StateError when it is written wrong."""
        if not self.statements.startswith(CONCURRENTLY):
            return None
        found = _INDEX.findall(self.statements)
        if len(found) != 1:
            raise _error(f"{self.name} must be one CREATE INDEX CONCURRENTLY IF NOT EXISTS name ON ...")
        return str(found[0])


def read_migrations(folder: Path) -> list[Migration]:
    """The steps of `folder` in order. Raises StateError for a wrong name or a gap in the numbers."""
    steps = [_read(path) for path in sorted(folder.glob("*.sql"))]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise _error(f"the migrations of {folder} are not numbered 0001, 0002, ... without a gap")
    return steps


async def migrate(pool: Pool, folder: Path) -> list[str]:
    """Applies what is missing, step by step, and returns the names.

    Raises StateError when an applied step has changed; DependencyError when a step does not get its locks.
    """
    steps = read_migrations(folder)
    with postgres_errors():
        async with (
            pool.connection() as connection,
            _session(connection),
            advisory_lock(connection, ADVISORY_LOCK, OTHERS_WAIT_S_MAX),
        ):
            await connection.execute(CREATE_TABLE)
            missing = _missing(steps, await _applied(connection))
            for step in missing:
                await _apply(connection, step)
    return [step.name for step in missing]


@asynccontextmanager
async def _session(connection: AsyncConnection[Any]) -> AsyncIterator[None]:
    """Bounds for long statements, and each statement its own transaction; the pool gets back what it lent."""
    await connection.set_autocommit(True)
    await connection.execute(cast(Any, f"SET statement_timeout = {STEP_WAIT_MS_MAX}"))
    await connection.execute(cast(Any, f"SET lock_timeout = {CONCURRENT_WAIT_MS_MAX}"))
    try:
        yield
    finally:
        if not connection.broken:
            await connection.execute("RESET statement_timeout")
            await connection.execute("RESET lock_timeout")
            await connection.set_autocommit(False)


async def _applied(connection: AsyncConnection[Any]) -> dict[int, tuple[str, str]]:
    rows = await connection.execute("SELECT number, name, sha256 FROM schema_migrations")
    return {number: (name, sha256) for number, name, sha256 in await rows.fetchall()}


def _missing(steps: list[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    for step in steps:
        name, sha256 = applied.get(step.number, (step.name, step.sha256))
        if sha256 != step.sha256:
            raise _error(
                f"{step.name} was changed after it was applied as {name}; write a new migration instead"
            )
    return [step for step in steps if step.number not in applied]


async def _apply(connection: AsyncConnection[Any], step: Migration) -> None:
    index = step.index

    async def at_once() -> None:
        async with short_locks(connection):
            await connection.execute(cast(Any, step.statements))
            await _record(connection, step)

    async def concurrently() -> None:
        await _drop_half(connection, str(index))
        await connection.execute(cast(Any, step.statements))
        await _record(connection, step)

    await patiently(step.name, concurrently if index else at_once)


async def _drop_half(connection: AsyncConnection[Any], index: str) -> None:
    """Drops an index that was not finished: nobody reads it, but all writers keep it up."""
    query = "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"
    if (await connection.execute(query, (index,))).rowcount:
        await connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(index)))


async def _record(connection: AsyncConnection[Any], step: Migration) -> None:
    await connection.execute(
        "INSERT INTO schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
        (step.number, step.name, step.sha256),
    )


def _read(path: Path) -> Migration:
    match = FILE_NAME.match(path.name)
    if match is None:
        raise _error(f"{path.name} is not named NNNN_what_it_does.sql")
    statements = path.read_text()
    return Migration(int(match[1]), path.stem, hashlib.sha256(statements.encode()).hexdigest(), statements)


def _error(message: str) -> StateError:
    return StateError(error_reason_pb2.ERROR_REASON_INTERNAL, message)
