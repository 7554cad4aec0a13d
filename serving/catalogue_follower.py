"""Keeps the catalogue's view up to date with Postgres: everything at the start, then what has changed since."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from psycopg import AsyncConnection, IsolationLevel

from runtime import metrics
from runtime.clock import Clock
from runtime.errors import RecoError
from runtime.postgres import Pool, postgres_errors
from serving import limits
from serving.catalogue import NEVER_S, Catalogue, ItemRow

_COLUMNS = """key, id, title, categories, tags, numeric_attributes, string_attributes,
  extract(epoch from create_time)::float8, extract(epoch from expire_time)::float8, available, deleted"""
_ALL = f"select {_COLUMNS} from items"  # noqa: S608 - constants
# Exactly what the snapshot before did not see: a transaction that was running then and has committed since is in it,
# whatever its number, which neither a time nor a sequence would give.
_CHANGED = (
    f"{_ALL} where changed_xid >= pg_snapshot_xmin(%(seen)s::pg_snapshot)"
    " and not pg_visible_in_snapshot(changed_xid, %(seen)s::pg_snapshot)"
)


class CatalogueFollower:
    """Follows the table `items`; while Postgres is away the last view goes on and `is_stale` says so."""

    def __init__(self, catalogue: Catalogue, pool: Pool, clock: Clock) -> None:
        self._catalogue = catalogue
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
        try:
            async with self._turn:
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

    async def _read(self) -> None:
        # The first read may be millions of rows and has the time it needs; later ones are small.
        wait_s = None if self._snapshot is None else limits.FOLLOW_S_MAX
        async with asyncio.timeout(wait_s), self._pool.connection() as connection:
            await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            async with connection.transaction():
                snapshot = await _snapshot(connection)
                await self._apply_changes(connection)
            await connection.set_isolation_level(None)
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
