"""Postgres' partitions by day: made ahead of time, without a lock that anybody waits for.

A partition is a table that is filled and checked apart, and then attached, which takes milliseconds. Rows that came before
their day had a partition lie in the default one: they are copied while others write, and leave it in the moment of attaching.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.sql import Composable, Identifier, Literal

from runtime.postgres import Pool, postgres_errors
from runtime.postgres_locks import advisory_lock, patiently, short_locks

PARTITIONS_AHEAD_DAYS = 7  # so long may upkeep be away before rows go to the default partition
PARTITIONS_BEHIND_DAYS = 1  # the stream still has yesterday's
COPY_ROWS_MAX = 10_000  # of one transaction
TRIES_MAX = 3  # of one change in one turn of upkeep; the next turn tries again
# The last rows of a day leave the default partition under its lock: seconds for a million, where upkeep was away for long.
ATTACH_WAIT_MS_MAX = 600_000
ADVISORY_LOCK = 0x7061727473  # "parts": of who makes and drops partitions
OTHERS_WAIT_S_MAX = 60.0
FIRST_DAY = date(1970, 1, 2)  # what is before it is of before the partitions

EVENTS = "events"
DECISIONS = "decisions"
KEYS: dict[str, LiteralString] = {EVENTS: "event_id", DECISIONS: "token"}  # each beside `day`


def day_of(time_s: float) -> date:
    """The UTC date."""
    return datetime.fromtimestamp(time_s, UTC).date()


def name_of(table: str, day: date) -> str:
    """The name of a day's partition."""
    return f"{table}_{day:%Y%m%d}"


async def make_ahead(pool: Pool, now_s: float) -> int:
    """Makes the partitions around now, and those of rows that have none; returns how many were made."""
    today = day_of(now_s)
    around = {today + timedelta(days) for days in range(-PARTITIONS_BEHIND_DAYS, PARTITIONS_AHEAD_DAYS + 1)}
    made = 0
    for table in KEYS:
        for day in sorted(around | await _days_without(pool, table)):
            made += await make_partition(pool, table, day)
    return made


async def make_partition(pool: Pool, table: str, day: date) -> bool:
    """Makes a day's partition if there is none; whether it made one. Killed anywhere, it goes on when it is called again.

    Raises DependencyError when others hold its locks.
    """
    async with changing(pool) as connection:
        if await is_attached(connection, table, day):
            return False
        await patiently(name_of(table, day), lambda: _create(connection, table, day), TRIES_MAX)
        await _copy(connection, table, day)
        await patiently(name_of(table, day), lambda: _attach(connection, table, day), TRIES_MAX)
        return True


@asynccontextmanager
async def changing(pool: Pool) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection in autocommit that alone makes and drops partitions."""
    with postgres_errors():
        async with pool.connection() as connection:
            await connection.set_autocommit(True)
            try:
                async with advisory_lock(connection, ADVISORY_LOCK, OTHERS_WAIT_S_MAX):
                    yield connection
            finally:
                if not connection.broken:
                    await connection.set_autocommit(False)  # the pool's connections have transactions


async def is_attached(connection: AsyncConnection[Any], table: str, day: date) -> bool:
    """Whether the day has a partition that readers see."""
    query = "SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s)"
    return (await connection.execute(query, (name_of(table, day),))).rowcount > 0


async def _days_without(pool: Pool, table: str) -> set[date]:
    """Days of rows that lie in the default partition."""
    query = sql.SQL("SELECT DISTINCT day FROM {}").format(_default(table))
    with postgres_errors():
        async with pool.connection() as connection:
            return {row[0] for row in await (await connection.execute(query)).fetchall()}


async def _create(connection: AsyncConnection[Any], table: str, day: date) -> None:
    """The table, apart, with a check that saves the attaching a look at its rows."""
    create = sql.SQL(
        "CREATE TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING ALL, CONSTRAINT {check} CHECK (day >= {day} AND day < {next}))"
    )
    async with short_locks(connection):
        await connection.execute(create.format(**_words(table, day)))


async def _copy(connection: AsyncConnection[Any], table: str, day: date) -> None:
    """Copies the day's rows out of the default partition, a bounded number at a time. They stay there: readers see them."""
    copy = sql.SQL("""
      WITH batch AS (
        SELECT * FROM {default} WHERE day = {day} AND {key} > %(after)s ORDER BY {key} LIMIT %(rows)s
      ), copied AS (INSERT INTO {name} SELECT * FROM batch ON CONFLICT DO NOTHING)
      SELECT max({key}) FROM batch
    """).format(**_words(table, day))
    after: str | None = ""
    while after is not None:
        row = await (await connection.execute(copy, {"after": after, "rows": COPY_ROWS_MAX})).fetchone()
        after = row[0] if row else None


async def _attach(connection: AsyncConnection[Any], table: str, day: date) -> None:
    """Takes what the default partition still has of the day, and lets writers and readers have the partition, in one step.

    Writers wait for the table, not for its default partition: they would find that it takes their rows no more. Readers wait for the
    latter alone.
    """
    words = _words(table, day)
    async with short_locks(connection):
        await connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(ATTACH_WAIT_MS_MAX))
        for statement in (
            "LOCK TABLE ONLY {table} IN SHARE ROW EXCLUSIVE MODE",
            "LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE",
            "INSERT INTO {name} SELECT * FROM {default} WHERE day = {day} ON CONFLICT DO NOTHING",
            "DELETE FROM {default} WHERE day = {day}",
            "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({next})",
            "ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {check}",
        ):
            await connection.execute(sql.SQL(statement).format(**words))


def _words(table: str, day: date) -> dict[str, Composable]:
    name = name_of(table, day)
    return {
        "table": Identifier(table), "name": Identifier(name), "check": Identifier(f"{name}_day"),
        "default": _default(table), "key": Identifier(KEYS[table]),
        "day": Literal(day), "next": Literal(day + timedelta(1)),
    }  # fmt: skip


def _default(table: str) -> Identifier:
    return Identifier(f"{table}_default")
