"""Postgres was lost: items with their keys, users and events of the days that it keeps, from the lake.

What is there already stays, so it can be run again, and beside consumers. What the lake has not yet comes through the stream: the
sink's group is set back to where the lake ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis

from ingest.event_figures import postgres_figures
from ingest.lake.files import LakeFiles, open_lake
from ingest.lake.listing import parts_of
from ingest.lake.names import EVENTS, KINDS, part_of
from ingest.lake.query import make_views, read
from ingest.partitions import changing, day_of, make_partition, name_of
from ingest.rebuild import hours, limits, positions, recorded
from ingest.rebuild.apart import apart
from ingest.rebuild.hours import Hours
from ingest.retire import figures_in
from runtime.clock import Clock
from runtime.errors import StateError
from runtime.postgres import CONNECT_WAIT_S_MAX, Pool, postgres_errors
from runtime.settings import PARTITION_COUNT_MAX, Settings

POSTGRES = "postgres"
_ITEM = "key, id, title, categories, tags, numeric_attributes, string_attributes, create_time, expire_time, available, media_url, deleted"
_USER = "id, numeric_attributes, string_attributes, create_time, changed_time"
_EVENT = """event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value, event_time, accept_time,
  attribution_token, surface, context, day, stream_partition, stream_offset"""

# The newest state of each, from the lake's history; numbers rise for one item, for its row is locked while it changes.
_ITEMS = """SELECT item FROM items
  QUALIFY row_number() OVER (PARTITION BY key ORDER BY number DESC, change_time DESC) = 1 AND item IS NOT NULL ORDER BY key"""
_USERS = """SELECT account FROM users
  QUALIFY row_number() OVER (PARTITION BY id ORDER BY number DESC, change_time DESC) = 1 AND account IS NOT NULL ORDER BY id"""
# Items whose change the lake never got, but events did.
_BARE = """SELECT item_key, any_value(item_id), min(accept_time) FROM events
  WHERE item_key NOT IN (SELECT key FROM items) GROUP BY item_key ORDER BY item_key"""

# What is restored is no change: the lake has these rows.
_INSERT_ITEMS: LiteralString = f"""INSERT INTO items ({_ITEM}) OVERRIDING SYSTEM VALUE
  SELECT {_ITEM} FROM restored, jsonb_populate_record(NULL::items, row) ON CONFLICT DO NOTHING"""  # noqa: S608
_INSERT_USERS: LiteralString = f"""INSERT INTO users ({_USER})
  SELECT {_USER} FROM restored, jsonb_populate_record(NULL::users, row) ON CONFLICT DO NOTHING"""  # noqa: S608
_INSERT_BARE = """INSERT INTO items (key, id, title, categories, tags, numeric_attributes, string_attributes, create_time,
    available, media_url) OVERRIDING SYSTEM VALUE
  SELECT (row ->> 'key')::integer, row ->> 'id', '', '{}', '{}', '{}', '{}', (row ->> 'time')::timestamptz, true, ''
  FROM restored ON CONFLICT DO NOTHING"""
_INSERT_EVENTS: LiteralString = (
    f"INSERT INTO events ({_EVENT}) SELECT {_EVENT} FROM restored_events ON CONFLICT DO NOTHING"  # noqa: S608
)
_STRANGERS = """SELECT i.id, i.key FROM restored, jsonb_to_record(row) AS r (key integer, id text)
  JOIN items i ON (i.id = r.id) <> (i.key = r.key) LIMIT 1"""
_RAISE_SEQUENCE = """SELECT setval(s, greatest(%s, (SELECT coalesce(last_value, 0) FROM pg_sequences
    WHERE format('%%I.%%I', schemaname, sequencename)::regclass = s))) FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass AS s) AS named"""


@dataclass
class Restored:
    """Rows that were inserted; `items_bare` are those that only events name, without a title or anything else."""

    items: int = 0
    items_bare: int = 0
    users: int = 0
    events: int = 0
    days: int = 0
    differ: list[str] = field(default_factory=list)  # days whose count or checksum is not the lake's


Tell = Callable[[Restored], None]


async def rebuild_postgres(
    settings: Settings, redis: Redis, pool: Pool, clock: Clock, tell: Tell = lambda _: None
) -> Restored:
    """Fills the migrated database `pool`. Raises StateError: it has other items already; DependencyError: run it again."""
    files = open_lake(settings.lake_url, settings.data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    lake = await asyncio.to_thread(recorded.lake_ends, files, settings.partition_count)
    for partition, end in lake.items():
        await positions.make_group(redis, partition, POSTGRES)
        if await positions.acknowledged(redis, partition, POSTGRES) > end:
            await positions.set_back(redis, partition, POSTGRES, end)
    days = await asyncio.to_thread(_days, files, settings.postgres_event_days, clock.time_s())
    for day in days:
        await make_partition(pool, EVENTS, day)
    done = Restored(days=len(days))
    with tempfile.TemporaryDirectory(prefix="rebuild-", dir=settings.data_dir) as scratch:
        work = _Work(settings.postgres_url, Path(scratch), done, tell)
        await apart(work, lambda: work.run(files, days))
    done.differ = await _differ(pool, files, days)
    return done


async def _differ(pool: Pool, files: LakeFiles, days: Sequence[date]) -> list[str]:
    """Days that are not the same in both by count and checksum. Of the last one the stream may have brought more already."""
    lake = figures_in(files)
    wrong = []
    for day in days:
        theirs = await lake(day)
        async with changing(pool) as connection:
            ours = await postgres_figures(connection, name_of(EVENTS, day))
        if ours != theirs and not (day == days[-1] and ours.row_count > theirs.row_count):
            wrong.append(str(day))
    return wrong


def _days(files: LakeFiles, keep_days: int, now_s: float) -> list[date]:
    """Days of the lake that Postgres keeps, oldest first."""
    first = day_of(now_s) - timedelta(keep_days) if keep_days else date.min
    days = {datetime.strptime(f"{part.date}+0000", "%Y-%m-%d%z").date() for part in parts_of(files)}
    return sorted(day for day in days if day >= first)


class _Work:
    """The copying, in a thread."""

    def __init__(self, url: str, scratch: Path, done: Restored, tell: Tell) -> None:
        self._url, self._scratch, self._done, self._tell = url, scratch, done, tell
        self._lake: Hours = {}
        self._ours: Hours = {}
        self._reading: list[duckdb.DuckDBPyConnection] = []
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True
        for connection in self._reading:
            with contextlib.suppress(duckdb.Error):  # it has just been closed
                connection.interrupt()

    def run(self, files: LakeFiles, days: Sequence[date]) -> None:
        """Catalogue first: who writes meanwhile gets keys above all that ever were given."""
        options = "-c timezone=UTC -c statement_timeout=0"
        with (
            postgres_errors(),
            psycopg.connect(self._url, connect_timeout=CONNECT_WAIT_S_MAX, options=options) as connection,
        ):
            connection.execute("CREATE TEMP TABLE restored (row jsonb) ON COMMIT DELETE ROWS")
            connection.execute(
                "CREATE TEMP TABLE restored_events (LIKE events INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
            )
            connection.commit()

            def catalogue(lake: duckdb.DuckDBPyConnection, names: Mapping[str, Sequence[str]]) -> None:
                self._prepare(lake)
                self._lake = hours.lake_hours(
                    lake, recorded.by_partition(names[EVENTS], range(PARTITION_COUNT_MAX))
                )
                make_views(lake, names)
                with connection.transaction():
                    # One step, and upserts wait for it: an item that came in between would get the key of another.
                    connection.execute("LOCK TABLE items, users IN SHARE ROW EXCLUSIVE MODE")
                    self._catalogue(lake, connection)

            read(files, catalogue, KINDS)
            self._ours = hours.postgres_hours(connection)
            connection.commit()
            for day in days:
                read(files, lambda lake, names, day=day: self._day(lake, names[EVENTS], day, connection))  # type: ignore[misc]

    def _prepare(self, lake: duckdb.DuckDBPyConnection) -> None:
        self._reading = [lake]
        lake.execute(f"SET memory_limit = '{limits.MEMORY_LIMIT}'")
        lake.execute(f"SET temp_directory = '{self._scratch}'")

    def _catalogue(self, lake: duckdb.DuckDBPyConnection, connection: psycopg.Connection) -> None:
        self._raise_sequences(lake, connection)
        for rows in _batches(lake, _ITEMS):
            self._go_on()
            self._done.items += _insert(connection, rows, _INSERT_ITEMS, "items", "items_inserted")
        for rows in _batches(lake, _USERS):
            self._go_on()
            self._done.users += _insert(connection, rows, _INSERT_USERS, "users", "users_inserted")
        bare = f"SELECT json_object('key', item_key, 'id', x, 'time', t)::VARCHAR FROM ({_BARE}) AS bare (item_key, x, t)"  # noqa: S608
        for rows in _batches(lake, bare):
            self._go_on()
            self._done.items_bare += _insert(connection, rows, _INSERT_BARE)

    def _is_there(self, hour: int) -> bool:
        """Whether Postgres has the hour already, of all partitions: from a run before, or it never lost it."""
        partitions = {partition for partition, known in self._lake if known == hour}
        return all(
            self._lake[partition, hour] == self._ours.get((partition, hour)) for partition in partitions
        )

    def _go_on(self) -> None:
        """Tells how far it is; raises when it is to end."""
        self._tell(self._done)
        if self._is_stopped:
            raise InterruptedError

    def _raise_sequences(self, lake: duckdb.DuckDBPyConnection, connection: psycopg.Connection) -> None:
        """Above all keys and numbers that the lake knows: none is given a second time."""
        for table, column, query in (
            (
                "items",
                "key",
                "SELECT max(k) FROM (SELECT key AS k FROM items UNION ALL SELECT item_key FROM events)",
            ),
            ("item_changes", "number", "SELECT max(number) FROM items"),
            ("user_changes", "number", "SELECT max(number) FROM users"),
        ):
            row = lake.execute(query).fetchone()
            if row and row[0]:
                connection.execute(_RAISE_SEQUENCE, (row[0], table, column))

    def _day(
        self, lake: duckdb.DuckDBPyConnection, names: Sequence[str], day: date, connection: psycopg.Connection
    ) -> None:
        """One hour after the other, each by its order in the stream: of an id that stands there twice the first counts."""
        self._prepare(lake)
        by_folder: dict[str, list[str]] = {}
        for name in names:
            folder, _, file = name.rpartition("/")
            if f"/date={day}/" in name and part_of("", file):
                by_folder.setdefault(folder, []).append(name)
        for folder in sorted(by_folder):
            if self._is_there(hours.hour_of(folder)):
                continue
            for batch in lake.sql(_events(by_folder[folder], day)).to_arrow_reader(limits.BATCH_ROWS):
                self._go_on()
                self._done.events += _insert_events(connection, batch)


def _batches(lake: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[str]]:
    found = lake.cursor().execute(query)
    while rows := found.fetchmany(limits.TAIL_ROWS):
        yield [row[0] for row in rows]


def _insert(
    connection: psycopg.Connection,
    rows: Sequence[str],
    statement: LiteralString,
    table: str = "",
    trigger: str = "",
) -> int:
    """Inserts rows (JSON); returns how many. Without the trigger that would record them as changes."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE restored")
        with cursor.copy("COPY restored FROM STDIN") as copy:
            for row in rows:
                copy.write_row((row,))
        if table == "items":
            _refuse_strangers(cursor)
        if trigger:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}".encode())
        cursor.execute(statement)
        inserted = cursor.rowcount
        if trigger:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}".encode())
    return inserted


def _refuse_strangers(cursor: psycopg.Cursor) -> None:
    found = cursor.execute(_STRANGERS).fetchone()
    if found:
        message = (
            f"this database has other items already: {found[0]!r} with the key {found[1]}, which the lake has otherwise; "
            "stop ingest, begin with an empty database, and start ingest when it is rebuilt"
        )
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, {"store": "postgres"})


def _insert_events(connection: psycopg.Connection, batch: pa.RecordBatch) -> int:
    data = io.BytesIO()
    pa_csv.write_csv(
        batch, data, pa_csv.WriteOptions(include_header=False)
    )  # texts quoted, nulls empty: as COPY reads it
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy(f"COPY restored_events ({_EVENT}) FROM STDIN (FORMAT csv)".encode()) as copy:
            copy.write(data.getbuffer())
        cursor.execute(_INSERT_EVENTS)
        return cursor.rowcount


def _events(names: Sequence[str], day: date) -> str:
    """Files of one hour as rows of Postgres' table, in the order of the stream."""
    return f"""SELECT event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value, event_time,
      accept_time, attribution_token, surface, context, DATE '{day}' AS day,
      regexp_extract(filename, 'part-(\\d+)-', 1)::SMALLINT AS stream_partition, stream_offset
      FROM read_parquet([{hours.quoted(names)}], union_by_name = true, hive_partitioning = false, filename = true)
      ORDER BY stream_offset, stream_partition"""  # noqa: S608
