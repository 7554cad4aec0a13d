"""Keeps the catalogue's view up to date with Postgres: everything at the start, then what has changed since."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from psycopg import AsyncConnection

from runtime import metrics
from runtime.clock import Clock
from runtime.errors import RecoError
from runtime.postgres import Pool, postgres_errors
from serving import limits
from serving.catalogue import NEVER_S, Catalogue, ItemRow
from serving.catalogue_file import ROW, CatalogueFile

_ALL = f"select {ROW} from items"  # noqa: S608 - a constant
# Exactly what the snapshot before did not see: a transaction that was running then and has committed since is in it,
# whatever its number, which neither a time nor a sequence would give.
_CHANGED = (
    f"{_ALL} where changed_xid >= pg_snapshot_xmin(%(seen)s::pg_snapshot)"
    " and not pg_visible_in_snapshot(changed_xid, %(seen)s::pg_snapshot)"
)


class CatalogueFollower:
    """Follows the table `items`; while Postgres is away the last view goes on and `is_stale` says so.

    The view is kept in a file now and then, and a start without Postgres begins with that.
    """

    def __init__(self, catalogue: Catalogue, pool: Pool, clock: Clock, file: CatalogueFile) -> None:
        self._catalogue = catalogue
        self._file = file
        self._saved_revision = 0
        self._save_due_s = float("-inf")
        self._looked_for_file = False
        self._pool = pool
        self._clock = clock
        self._snapshot: str | None = None
        self._followed_s = -limits.CATALOG_STALE_S
        self._failing = False
        self._turn = asyncio.Lock()  # two looks at once would apply changes out of order

    @property
    def is_stale(self) -> bool:
        """Whether the view may be older than CATALOG_STALE_S."""
        return self._clock.monotonic_s() - self._followed_s > limits.CATALOG_STALE_S

    async def follow(self) -> bool:
        """Looks once; False if Postgres did not answer."""
        async with self._turn:
            followed = await self._follow()
            if not (followed or self._snapshot or self._looked_for_file):
                self._looked_for_file = True
                await self._begin_with_file()
        return followed

    async def save(self) -> None:
        """Writes the file, if the view has changed and CATALOG_FILE_PERIOD_S have passed. What goes wrong is told."""
        now_s, revision = self._clock.monotonic_s(), self._catalogue.revision
        if self.is_stale or revision == self._saved_revision or now_s < self._save_due_s:
            return
        self._save_due_s = now_s + limits.CATALOG_FILE_PERIOD_S
        try:
            await self._file.write(self._pool)
        except (RecoError, OSError, TimeoutError) as error:
            structlog.get_logger().warning("the catalogue's file can't be written", error=str(error))
        else:
            self._saved_revision = revision

    async def _follow(self) -> bool:
        try:
            with metrics.CATALOG_REFRESH_SECONDS.time(), postgres_errors():
                await self._read()
        except (RecoError, TimeoutError) as error:
            if not self._failing:
                structlog.get_logger().warning("the catalogue can't be followed", error=str(error))
            self._failing = True
            return False
        self._failing = False
        self._followed_s = self._clock.monotonic_s()
        metrics.CATALOG_ITEMS.set(int(self._catalogue.usable.sum()))
        return True

    async def _begin_with_file(self) -> None:
        try:
            async for rows in self._file.read():
                self._catalogue.apply(map(_item, rows), self._clock.time_s())
        except RecoError as error:
            structlog.get_logger().error("there is no catalogue to begin with", error=error.message)
        metrics.CATALOG_ITEMS.set(int(self._catalogue.usable.sum()))

    async def _read(self) -> None:
        wait_s = limits.CATALOG_READ_S_MAX if self._snapshot is None else limits.FOLLOW_S_MAX
        async with asyncio.timeout(wait_s), self._pool.connection() as connection:
            async with connection.transaction():
                # Of this transaction alone: the connection goes back to the pool as it came, however this ends.
                await connection.execute("set transaction isolation level repeatable read")
                snapshot = await _snapshot(connection)
                await self._apply_changes(connection)
            self._snapshot = snapshot

    async def _apply_changes(self, connection: AsyncConnection[Any]) -> None:
        query = _ALL if self._snapshot is None else _CHANGED
        async with connection.cursor(name="items") as cursor:
            await cursor.execute(query, {"seen": self._snapshot})
            while rows := await cursor.fetchmany(limits.CATALOG_BATCH_ROW_COUNT):
                self._catalogue.apply((_item(row) for row in rows), self._clock.time_s())


async def _snapshot(connection: AsyncConnection[Any]) -> str:
    row = await (await connection.execute("select pg_current_snapshot()::text")).fetchone()
    assert row is not None
    return str(row[0])


def _item(row: tuple[Any, ...]) -> ItemRow:
    key, item_id, title, categories, tags, numbers, texts, create_s, expire_s, available, deleted = row
    expire_s = NEVER_S if expire_s is None else expire_s
    return ItemRow(
        key, item_id, title, categories, tags, numbers, texts, create_s, expire_s, available, deleted
    )
