"""Keeps the catalogue's view up to date with Postgres: the snapshot beside the models, or everything; then what has changed since."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any

import numpy as np
import orjson
import structlog
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads

from profiles.item_news import decode
from runtime import metrics
from runtime.clock import Clock
from runtime.errors import RecoError
from runtime.postgres import DATABASE, Pool, postgres_errors, server_cursor
from serving import limits
from serving.background import LAST_NICE, SOON_NICE, Background
from serving.catalogue import Catalogue, ItemRow
from serving.catalogue_file import CatalogueFile, Half, Origin, Snapshot
from serving.removals import Removals

_ALL = """select key, id, title, categories, tags, numeric_attributes, string_attributes,
  extract(epoch from create_time)::float8, extract(epoch from expire_time)::float8, available, deleted from items"""
# Exactly what the snapshot before did not see: a transaction that was running then and has committed since is in it,
# whatever its number, which neither a time nor a sequence would give.
_CHANGED = (
    f"{_ALL} where changed_xid >= pg_snapshot_xmin(%(seen)s::pg_snapshot)"
    " and not pg_visible_in_snapshot(changed_xid, %(seen)s::pg_snapshot)"
)
_ORIGIN = (
    f"select {DATABASE}, pg_current_snapshot()::text, to_regclass('catalogue_snapshots') is not null".encode()
)
_IS_MARKED = "select exists(select from catalogue_snapshots where id = %s)"
_MARK = """with old as (delete from catalogue_snapshots where mark_time < now() - make_interval(days => %s))
  insert into catalogue_snapshots (id) values (%s)"""

Connection = AsyncConnection[tuple[Any, ...]]


class CatalogueFollower:
    """Follows the table `items`: looks at it when ingest tells of changes, and every CATALOG_PERIOD_S, should that get lost.

    What is told to be gone is taken out of the view at once. While Postgres is away the last view goes on and `is_stale` says so.

    The view is kept as a snapshot now and then, and a start begins with that.
    """

    def __init__(self, catalogue: Catalogue, pool: Pool, clock: Clock, file: CatalogueFile) -> None:
        self._catalogue = catalogue
        self._file = file
        self._pool = pool
        self._clock = clock
        self._origin: Origin | None = None  # what the view is exact for, as Postgres has confirmed
        self._begun: Snapshot | None = None  # what was read at the start and Postgres has not confirmed yet
        self._looked_for_file = False
        self._change_count = self._saved_count = 0
        self._can_mark = False
        self._save_due_s = float("-inf")
        self._followed_s = -limits.CATALOG_STALE_S
        self._failing = False
        self._turn = asyncio.Lock()  # two looks at once would apply changes out of order
        self._wanted = asyncio.Event()
        self._removals = Removals()
        self._soon = Background("catalogue", SOON_NICE)
        self._last = Background("catalogue-file", LAST_NICE)  # nobody waits for a snapshot

    @property
    def catalogue(self) -> Catalogue:
        """The view."""
        return self._catalogue

    @property
    def is_stale(self) -> bool:
        """Whether the view may be older than CATALOG_STALE_S."""
        return self._clock.monotonic_s() - self._followed_s > limits.CATALOG_STALE_S

    def take(self, message: bytes) -> None:
        """What ingest has told: what is gone is gone with this call; for the rest a look is due."""
        news = decode(message)
        if news is not None and news.gone:
            view = self._origin or (self._begun.origin if self._begun else None)
            self._catalogue.withdraw(np.fromiter(self._removals.take(news, view), dtype=np.int64))
        self.wake()

    def wake(self) -> None:
        """A look is due: however many ask for it meanwhile, one is enough."""
        self._wanted.set()

    async def follow_next(self) -> None:
        """Looks once when that is due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.CATALOG_PERIOD_S):
                await self._wanted.wait()
        self._wanted.clear()
        if not await self.follow():
            await asyncio.sleep(limits.CATALOG_PERIOD_S)

    async def follow(self) -> bool:
        """Looks once; False if Postgres did not answer."""
        async with self._turn:
            if not self._looked_for_file:
                self._looked_for_file = True
                self._begun = await self._read_file()
            followed = await self._follow()
            await self._work_ahead(self._catalogue, [])
            if self._begun and not self._catalogue.size:
                self._catalogue.adopt(self._begun.catalogue(self._clock.time_s()))
            metrics.CATALOG_ITEMS.set(self._catalogue.usable_count)
        return followed

    async def save(self) -> None:
        """Writes a snapshot, if the view has changed and CATALOG_FILE_PERIOD_S have passed. What goes wrong is told."""
        now_s = self._clock.monotonic_s()
        if self.is_stale or self._change_count == self._saved_count or now_s < self._save_due_s:
            return
        self._save_due_s = now_s + limits.CATALOG_FILE_PERIOD_S
        try:
            await self._save()
        except (RecoError, OSError, TimeoutError) as error:
            structlog.get_logger().warning("the catalogue's snapshot can't be written", error=str(error))

    async def _save(self) -> None:
        origin = self._origin
        if origin is None or not self._can_mark or not self._catalogue.size:
            return
        if await self._last.run(self._file.is_recent, origin.database, self._clock.time_s()):
            return
        with self._file.writing() as half:
            if half is not None:
                await self._write(half)

    async def _write(self, half: Half) -> None:
        # The arrays are written as they are, not copied before: for that moment nothing may change them. What takes longer,
        # flushing and checksums, is done after it, from the files.
        async with self._turn:
            origin, count = self._origin, self._change_count
            if origin is None:
                return
            taken_s = self._clock.time_s()
            await self._soon.run(half.write, self._catalogue.parts())  # changes wait for it
        marker = str(uuid.uuid4())
        async with asyncio.timeout(limits.FOLLOW_S_MAX):
            with postgres_errors():
                async with self._pool.connection() as connection:
                    await connection.execute(_MARK, (limits.CATALOG_MARKER_DAYS_MAX, marker))
        await self._last.run(half.publish, origin, marker, taken_s)
        self._saved_count = count

    async def _read_file(self) -> Snapshot | None:
        try:
            return await asyncio.to_thread(self._file.read)
        except RecoError as error:
            structlog.get_logger().error(
                "the catalogue is read from PostgreSQL as a whole", error=error.message
            )
            return None

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
        return True

    async def _read(self) -> None:
        self._removals.begin()
        try:
            await self._read_changes()
        finally:
            self._removals.end()
        self._catalogue.rest()

    async def _read_changes(self) -> None:
        async with asyncio.timeout(limits.FOLLOW_S_MAX) as bound, self._pool.connection() as connection:
            async with connection.transaction():
                # Of this transaction alone: the connection goes back to the pool as it came, however this ends.
                await connection.execute("set transaction isolation level repeatable read")
                origin = await self._look(connection)
                self._removals.see(origin, follows_on=self._origin is not None)
                if self._origin is None:
                    bound.reschedule(asyncio.get_running_loop().time() + limits.CATALOG_READ_S_MAX)
                    await self._read_all(connection)
                else:
                    await self._apply(connection, _CHANGED, self._catalogue)
            self._origin, self._begun = origin, None

    async def _look(self, connection: Connection) -> Origin:
        """Where Postgres is now. Leaves `_origin` None if what the view began with is not a part of that."""
        cursor = await connection.execute(_ORIGIN)
        row = await cursor.fetchone()
        assert row is not None
        origin, self._can_mark = Origin(row[0], row[1]), row[2]
        if self._begun is not None:
            await self._confirm(connection, self._begun, origin)
        elif self._origin is not None and not _continues(self._origin, origin):
            self._origin = None
            structlog.get_logger().warning(
                "PostgreSQL is another one, or was restored: everything is read again"
            )
        return origin

    async def _confirm(self, connection: Connection, begun: Snapshot, origin: Origin) -> None:
        fits = self._can_mark and _continues(begun.origin, origin)
        if fits:
            row = await (await connection.execute(_IS_MARKED, (begun.marker,))).fetchone()
            fits = bool(row and row[0])
        if fits:
            if not self._catalogue.size:
                self._catalogue.adopt(begun.catalogue(self._clock.time_s()))
            self._origin, self._begun = begun.origin, None
        else:
            message = (
                "the catalogue's snapshot is not of this database as it is now; everything is read again"
            )
            structlog.get_logger().warning(message, path=str(self._file.path))

    async def _read_all(self, connection: Connection) -> None:
        """Into a view beside the one that answers, if there is one: requests see the one or the other."""
        target = Catalogue() if self._catalogue.size else self._catalogue
        row = await (await connection.execute("select max(key) from items")).fetchone()
        if row and row[0] is not None:
            await self._soon.run(target.reserve, row[0] + 1)
        await self._apply(connection, _ALL, target)
        if target is not self._catalogue:
            self._catalogue.adopt(target)

    async def _apply(self, connection: Connection, query: str, catalogue: Catalogue) -> None:
        async with server_cursor(connection, "items") as cursor:
            set_json_loads(orjson.loads, cursor)
            await cursor.execute(query.encode(), {"seen": self._origin and self._origin.pg_snapshot})
            while found := await cursor.fetchmany(limits.CATALOG_BATCH_ROW_COUNT):
                rows = [ItemRow(*row) for row in found]
                await self._work_ahead(catalogue, rows)
                # No await between the two: what is told to be gone comes before both or after both.
                catalogue.apply(self._removals.rows(rows), self._clock.time_s())
                self._change_count += 1

    async def _work_ahead(self, catalogue: Catalogue, rows: list[ItemRow]) -> None:
        for work in catalogue.work_ahead(rows):
            adopt = await self._soon.run(work)
            if adopt is not None:
                adopt()


def _continues(before: Origin, now: Origin) -> bool:
    """Whether `now` can be a later state of the same database: its transactions have numbers that never go back."""
    return before.database == now.database and _next_xid(before) <= _next_xid(now)


def _next_xid(origin: Origin) -> int:
    return int(origin.pg_snapshot.split(":")[1])  # "xmin:xmax:those in progress"
