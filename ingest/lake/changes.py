"""Changes of items and users from Postgres into the lake, each once: kind=items and kind=users.

A change is exported when its transaction and all older ones have ended (its xid lies below the snapshot's xmin), so that none can
appear behind what was exported. A file's footer holds the first transaction that is not exported yet; files are numbered
and made once, as the events' are: a kill, or two exporters at once, change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import structlog
from psycopg import AsyncConnection

from ingest.lake.files import LakeFiles
from ingest.lake.listing import End, end_of
from ingest.lake.names import ITEMS, USERS, Part, folder_of
from ingest.lake.table import SCHEMAS, to_parquet
from runtime import metrics
from runtime.postgres import DATABASE, Pool, postgres_errors

ROWS_MAX = 20_000  # of one file, unless one transaction has more: some 10 MB of items in memory
PARTITION = 0  # changes come in one order

# One statement, so one snapshot: what ends after it began has an xid of xmin at least.
_ROWS = {
    ITEMS: """SELECT xid::text::bigint, number, change_time, id, key, item::text FROM item_changes
      WHERE xid >= %s::text::xid8 AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, number LIMIT %s""",
    USERS: """SELECT xid::text::bigint, number, change_time, id, account::text FROM user_changes
      WHERE xid >= %s::text::xid8 AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, number LIMIT %s""",
}
_OF_ONE = {
    kind: query.replace(">= %s::text::xid8 AND xid <", "= %s::text::xid8 AND xid <").replace(" LIMIT %s", "")
    for kind, query in _ROWS.items()
}
_STATE = f"SELECT {DATABASE}, pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
Row = tuple[Any, ...]  # xid, and the columns of the kind


@dataclass(frozen=True)
class Changes:
    """Rows by xid and number, and which database they are from."""

    rows: list[Row]
    source: str


class ChangesExport:
    """One kind. `check` raises when another process may export by now."""

    def __init__(self, files: LakeFiles, kind: str, check: Callable[[], None]) -> None:
        self.kind = kind
        self._files, self._check = files, check
        self._end: End | None = None  # not learnt yet

    async def export(self, pool: Pool) -> int:
        """Exports what has ended since; returns how many changes. Raises DependencyError, OverloadError, StateError."""
        try:
            count = 0
            while made := await self._export_file(pool):
                count += made
                metrics.LAKE_CHANGES_TOTAL.labels(self.kind).inc(made)
            return count
        except BaseException:
            self._end = None  # whether the file was made is learnt anew
            raise

    async def _export_file(self, pool: Pool) -> int:
        if self._end is None:
            self._end = await asyncio.to_thread(end_of, self._files, PARTITION, self.kind)
        changes = await read_changes(pool, self.kind, self._end)
        if changes.rows:
            self._end = await asyncio.to_thread(self._write, changes, self._end)
        return len(changes.rows)

    def _write(self, changes: Changes, end: End) -> End:
        rows = changes.rows
        number, next_xid = end.number + 1, rows[-1][0] + 1
        # The first change's hour, so that two exporters choose the same; and hours never go back, as change times may.
        folder = max(end.folder, folder_of(int(rows[0][2].timestamp() * 1000), self.kind))
        data = to_parquet(_table(self.kind, rows), next_xid, self.kind, changes.source)
        self._check()
        self._files.create(Part(folder, PARTITION, number, number).path, data)
        return End(number, next_xid, folder, changes.source)


async def read_changes(pool: Pool, kind: str, end: End) -> Changes:
    """The changes that come after `end`: whole transactions, some ROWS_MAX rows. Raises DependencyError."""
    with postgres_errors():
        async with pool.connection() as connection:
            [[source, xmin]] = await _fetch(connection, _STATE)
            since = _since(kind, end, source, xmin)
            rows = await _fetch(connection, _ROWS[kind], since, ROWS_MAX)
            if len(rows) == ROWS_MAX:
                last_xid = rows[-1][0]  # it may have more
                rows = [row for row in rows if row[0] < last_xid] or await _fetch(
                    connection, _OF_ONE[kind], last_xid
                )
    return Changes(rows, source)


def _since(kind: str, end: End, source: str, xmin: int) -> int:
    """Numbers of transactions mean nothing in another database, or in one that was set back: all that it holds is exported."""
    if end.number == 0 or (end.source == source and end.offset <= xmin):
        return end.offset
    structlog.get_logger().warning(
        "this is another database, or an older state of it: all changes that it holds are exported, some for the second time",
        kind=kind,
    )
    return 0


def _table(kind: str, rows: Sequence[Row]) -> pa.Table:
    columns = zip(*(row[1:] for row in rows), strict=True)
    schema = SCHEMAS[kind]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


async def _fetch(connection: AsyncConnection[Any], query: str, *values: object) -> list[Row]:
    cursor = await connection.execute(query, [str(values[0]), *values[1:]] if values else None)
    return await cursor.fetchall()
