"""The history of items in Postgres: read for people, and let go of once the lake has had it for long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from psycopg import sql

from ingest import limits
from ingest.lake.changes import PARTITION
from ingest.lake.files import LakeFiles
from ingest.lake.listing import end_of
from ingest.lake.names import ITEMS, USERS
from runtime.postgres import DATABASE, Pool, postgres_errors

TABLES = {ITEMS: "item_changes", USERS: "user_changes"}

_HISTORY = "SELECT change_time, item FROM item_changes WHERE id = %s ORDER BY number DESC LIMIT %s"
# Only the oldest are looked at, so that a turn that finds nothing to do costs nothing; numbers rise with time, near enough.
_FORGET = """
DELETE FROM {table} WHERE number IN (
  SELECT number FROM (SELECT number, xid, change_time FROM {table} ORDER BY number LIMIT %(rows)s) AS oldest
  WHERE xid < %(exported)s::text::xid8 AND change_time < to_timestamp(%(now_s)s) - %(days)s * interval '1 day'
)"""
_DATABASE = f"SELECT {DATABASE}"


@dataclass(frozen=True)
class Version:
    """An item from a moment on, as its row was; `before` is the row that it replaced, as far as that is known."""

    change_time: datetime
    item: Mapping[str, Any]
    before: Mapping[str, Any] | None

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Columns that differ, each before and after; of the oldest version that is known all columns, before as None."""
        before = self.before or {}
        names = self.item.keys() | before.keys()
        return {
            name: (before.get(name), self.item.get(name))
            for name in sorted(names)
            if before.get(name) != self.item.get(name)
        }


async def item_history(pool: Pool, item_id: str, count_max: int) -> list[Version]:
    """The newest versions of an item, newest first; none when Postgres knows of no change. Raises DependencyError."""
    with postgres_errors():
        async with pool.connection() as connection:
            # One more than is asked for, to know what the last of them changed.
            rows = await (await connection.execute(_HISTORY, (item_id, count_max + 1))).fetchall()
    return list(_versions(rows))[:count_max]


async def forget_exported(pool: Pool, files: LakeFiles, now_s: float) -> int:
    """Lets go of changes that the lake has had for CHANGES_KEEP_DAYS, in bounded batches; returns how many.

    The lake's own word says how far it has them; that of another database's changes says nothing of ours.
    """
    forgotten = 0
    for kind, table in TABLES.items():
        end = await asyncio.to_thread(end_of, files, PARTITION, kind)
        if end.source == await _database(pool):
            forgotten += await _forget(pool, table, end.offset, now_s)
    return forgotten


async def _database(pool: Pool) -> str:
    with postgres_errors():
        async with pool.connection() as connection:
            row = await (await connection.execute(_DATABASE.encode())).fetchone()
            return str(row[0]) if row else ""


async def _forget(pool: Pool, table: str, exported_xid: int, now_s: float) -> int:
    statement = sql.SQL(_FORGET).format(table=sql.Identifier(table))
    given = {
        "rows": limits.CHANGES_ROWS_MAX, "exported": str(exported_xid), "now_s": now_s, "days": limits.CHANGES_KEEP_DAYS,
    }  # fmt: skip
    forgotten = 0
    for _ in range(limits.CHANGES_BATCHES_MAX):
        with postgres_errors():
            async with pool.connection() as connection:
                gone = (await connection.execute(statement, given)).rowcount
        forgotten += gone
        if not gone:
            break
    return forgotten


def _versions(rows: Sequence[tuple[Any, ...]]) -> Iterator[Version]:
    """From rows, newest first."""
    for (change_time, item), (_, before) in pairwise([*rows, (None, None)]):
        yield Version(change_time, item, before)
