"""Brings a database's schema forward: each NNNN_name.sql once, in order, under a lock; never back."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from psycopg import AsyncConnection
from reco.errors.v1 import error_reason_pb2

from runtime.errors import StateError
from runtime.postgres import Pool, postgres_errors

ADVISORY_LOCK = 0x7265636F  # "reco": whoever else starts now waits here
LOCK_WAIT_MS_MAX = 60_000  # for the others' migrations
STEP_WAIT_MS_MAX = (
    3_600_000  # an index over all events takes its time; the pool's bound is for everyday statements
)

assert LOCK_WAIT_MS_MAX < STEP_WAIT_MS_MAX
FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")

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


def read_migrations(folder: Path) -> list[Migration]:
    """The steps of `folder` in order. Raises StateError for a wrong name or a gap in the numbers."""
    steps = [_read(path) for path in sorted(folder.glob("*.sql"))]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise _error(f"the migrations of {folder} are not numbered 0001, 0002, ... without a gap")
    return steps


async def migrate(pool: Pool, folder: Path) -> list[str]:
    """Applies what is missing, all or nothing, and returns the names. Raises StateError when an applied step has changed."""
    steps = read_migrations(folder)
    with postgres_errors():
        async with pool.connection() as connection:
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS_MAX}")
            await connection.execute(f"SET LOCAL statement_timeout = {STEP_WAIT_MS_MAX}")
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
            await connection.execute(CREATE_TABLE)
            missing = _missing(steps, await _applied(connection))
            for step in missing:
                await _apply(connection, step)
    return [step.name for step in missing]


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
    await connection.execute(cast(Any, step.statements))
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
