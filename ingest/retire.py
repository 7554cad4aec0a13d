"""Old days leave Postgres, once the lake has the same: count and checksum of a day are looked at before, and again when nobody
can write to it any more.

A day is attached, or detached and on its way, or gone with a row in `retired_days`: the database knows how far it is, so that a
turn that was killed anywhere is gone on with by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from duckdb import DuckDBPyConnection
from psycopg import AsyncConnection, sql
from psycopg.sql import Identifier, Literal

from ingest.event_figures import Figures, lake_figures, postgres_figures
from ingest.lake.files import LakeFiles
from ingest.lake.names import EVENTS as LAKE_EVENTS
from ingest.lake.query import make_views, read
from ingest.partitions import EVENTS, TRIES_MAX, changing, day_of, is_attached, make_partition, name_of
from runtime import metrics
from runtime.postgres import Pool, postgres_errors
from runtime.postgres_locks import patiently, short_locks

LakeFigures = Callable[[date], Awaitable[Figures]]  # of a day in the lake
DAY_PATTERN = r"^events_\d{8}$"


async def retire(pool: Pool, lake: LakeFigures, keep_days: int, now_s: float) -> list[date]:
    """Lets days go that ended more than `keep_days` ago (0: none) and are in the lake; returns those that went.

    Raises DependencyError when a store does not answer; what is done stays done.
    """
    if not keep_days:
        return []
    first_kept = day_of(now_s) - timedelta(keep_days)
    old = [day for day in await days(pool) if day < first_kept]
    gone = [day for day in old if await _retire(pool, lake, day)]
    metrics.POSTGRES_DAYS_HELD.set(len(old) - len(gone))
    return gone


def figures_in(files: LakeFiles) -> LakeFigures:
    """What the lake has, of its files of the day alone."""

    def look(day: date, running: list[DuckDBPyConnection]) -> Figures:
        def work(connection: DuckDBPyConnection, names: Mapping[str, Sequence[str]]) -> Figures:
            running.append(connection)
            of_day = [name for name in names[LAKE_EVENTS] if f"/date={day}/" in name]
            make_views(connection, {LAKE_EVENTS: of_day})
            return lake_figures(connection)

        return read(files, work)

    async def look_apart(day: date) -> Figures:
        running: list[DuckDBPyConnection] = []
        looking = asyncio.create_task(asyncio.to_thread(look, day, running))
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:  # the process stops: it need not wait for a long look
            for connection in running:
                connection.interrupt()
            await asyncio.wait([looking])
            looking.exception()  # it is known why
            raise

    return look_apart


async def days(pool: Pool) -> list[date]:
    """Days of which there is a table, attached or not, oldest first."""
    query = "SELECT relname::text FROM pg_class WHERE relname ~ %s AND relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY 1"
    with postgres_errors():
        async with pool.connection() as connection:
            rows = await (await connection.execute(query, (DAY_PATTERN,))).fetchall()
    return [datetime.strptime(f"{name[-8:]}+0000", "%Y%m%d%z").date() for (name,) in rows]


async def _retire(pool: Pool, lake: LakeFigures, day: date) -> bool:
    if await _is_attached(pool, day):
        if not await _agree(pool, lake, day):
            return False
        await _detach(pool, day)
    figures = await _agree(pool, lake, day)
    if figures is None:  # written to since it was looked at, or not the table that was
        await make_partition(pool, EVENTS, day)
        return False
    await _drop(pool, day, figures)
    structlog.get_logger().info("a day left Postgres", day=str(day), rows=figures.row_count)
    metrics.POSTGRES_DAYS_RETIRED_TOTAL.inc()
    return True


async def _agree(pool: Pool, lake: LakeFigures, day: date) -> Figures | None:
    """What Postgres and the lake both have of the day; None, and told, when they differ."""
    with postgres_errors():
        async with pool.connection() as connection:
            ours = await postgres_figures(connection, name_of(EVENTS, day))
    theirs = await lake(day)
    if ours == theirs:
        return ours
    structlog.get_logger().error(
        "a day stays in Postgres, for the lake has not the same", day=str(day),
        postgres_rows=ours.row_count, lake_rows=theirs.row_count,
        postgres_checksum=ours.checksum, lake_checksum=theirs.checksum,
    )  # fmt: skip
    return None


async def _is_attached(pool: Pool, day: date) -> bool:
    with postgres_errors():
        async with pool.connection() as connection:
            return await is_attached(connection, EVENTS, day)


async def _detach(pool: Pool, day: date) -> None:
    """Takes the day from readers and writers. Not CONCURRENTLY, which a default partition forbids, but with short waits."""
    statement = sql.SQL("ALTER TABLE events DETACH PARTITION {}").format(Identifier(name_of(EVENTS, day)))
    async with changing(pool) as connection:
        await patiently(f"detaching {day}", lambda: _change(connection, statement), TRIES_MAX)


async def _drop(pool: Pool, day: date, figures: Figures) -> None:
    """Drops the table and writes down that it was there, in one step."""
    record = sql.SQL("""
      INSERT INTO retired_days (day, row_count, checksum) VALUES ({}, {}, {})
      ON CONFLICT (day) DO UPDATE SET
        row_count = excluded.row_count, checksum = excluded.checksum, retire_time = excluded.retire_time
    """).format(Literal(day), Literal(figures.row_count), Literal(figures.checksum))
    drop = sql.SQL("DROP TABLE {}").format(Identifier(name_of(EVENTS, day)))
    async with changing(pool) as connection:
        await patiently(f"dropping {day}", lambda: _change(connection, record, drop), TRIES_MAX)


async def _change(connection: AsyncConnection[Any], *statements: sql.Composed) -> None:
    async with short_locks(connection):
        for statement in statements:
            await connection.execute(statement)
