"""A dump into an empty system. The lake's files come first, each made once; then all tables in one transaction.

So a restore that is killed has left files of the lake that the next run finds, and nothing in Postgres.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.sql import Identifier, Literal
from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis

from ingest.dump import manifest as manifests
from ingest.dump.manifest import Manifest, damaged
from ingest.dump.tables import TABLES, columns_of, insert_query
from ingest.dump.write import LAKE_FOLDER, OPTIONS, Tell
from ingest.lake.files import LakeFiles, ThereAlreadyError, open_lake
from ingest.lake.names import KINDS, kind_folder
from ingest.partitions import make_partition
from ingest.stream import stream_key
from runtime.errors import StateError
from runtime.postgres import CONNECT_WAIT_S_MAX, Pool, postgres_errors
from runtime.redis_client import redis_errors
from runtime.settings import Settings

INSERT_ROWS = 2_000  # of one statement: some 1 MB


async def restore(
    settings: Settings, redis: Redis, pool: Pool, folder: Path, tell: Tell = lambda *_: None
) -> Manifest:
    """Fills the migrated database `pool` and the lake. Raises StateError: the dump is damaged, or the system is not empty."""
    manifest = await asyncio.to_thread(manifests.read, folder)
    await asyncio.to_thread(manifests.verify, folder, manifest)
    files = open_lake(settings.lake_url, settings.data_dir)
    await _refuse_entries(redis, settings.partition_count)
    await asyncio.to_thread(_check, settings.postgres_url, manifest)
    await asyncio.to_thread(_refuse_strangers, files, manifest)
    for table, days in manifest.days.items():
        for day in days:
            if not day.startswith("1970-01-01"):  # of before the partitions: these rows have one
                await make_partition(pool, table, date.fromisoformat(day))
    await asyncio.to_thread(_fill_lake, files, folder, manifest, tell)
    await asyncio.to_thread(_fill_tables, settings.postgres_url, folder, manifest, tell)
    return manifest


async def _refuse_entries(redis: Redis, partition_count: int) -> None:
    with redis_errors():
        for number in range(partition_count):
            if await redis.xlen(stream_key(number)):
                raise _not_empty(f"the stream of partition {number} has events")


def _check(url: str, manifest: Manifest) -> None:
    """Before anything is written: a later version's dump may have what this one can't hold."""
    with _connected(url) as connection:
        _refuse_rows(connection)
        for table in TABLES:
            unknown = set(manifest.columns.get(table.name, ())) - set(columns_of(connection, table))
            if unknown:
                message = f"the dump (of version {manifest.version}) has columns of {table.name} that are unknown here: {', '.join(sorted(unknown))}; update first"
                raise damaged(message)
    unknown_tables = set(manifest.columns) - {table.name for table in TABLES}
    if unknown_tables:
        raise damaged(f"the dump has tables that are unknown here: {', '.join(unknown_tables)}; update first")


def _refuse_rows(connection: psycopg.Connection[Any]) -> None:
    for table in TABLES:
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(Identifier(table.name))
        if connection.execute(query).fetchone() == (True,):
            raise _not_empty(f"the table {table.name} has rows")


def _refuse_strangers(files: LakeFiles, manifest: Manifest) -> None:
    """Files that are not of the dump; those of an earlier run that was killed are."""
    known = {file.path.removeprefix(f"{LAKE_FOLDER}/") for file in manifest.files if not file.table}
    for kind in KINDS:
        for found in files.walk(kind_folder(kind)):
            if found.path not in known and found.path.endswith(".parquet"):
                raise _not_empty(f"the lake has {found.path}")


def _not_empty(what: str) -> StateError:
    message = f"this system is not empty ({what}): restore into a new one, with an empty RECO_DATA_DIR or empty stores"
    return StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)


def _fill_lake(files: LakeFiles, folder: Path, manifest: Manifest, tell: Tell) -> None:
    of_lake = [file.path for file in manifest.files if not file.table]
    for count, path in enumerate(of_lake, 1):
        data, target = (folder / path).read_bytes(), path.removeprefix(f"{LAKE_FOLDER}/")
        try:
            files.create(target, data)
        except ThereAlreadyError:
            if files.read(target) != data:
                raise _not_empty(f"the lake has another {target}") from None
        tell("the lake's files", count)


def _fill_tables(url: str, folder: Path, manifest: Manifest, tell: Tell) -> None:
    """One transaction: killed anywhere, nothing of it is there."""
    with _connected(url) as connection:
        names = [table.name for table in TABLES if table.name in manifest.columns]
        for name in names:  # nobody writes meanwhile; and what is restored is no change
            lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(Identifier(name))
            connection.execute(lock)
        _refuse_rows(connection)
        _triggers(connection, "DISABLE")
        for name in names:
            query, done = insert_query(name, manifest.columns[name]), 0
            for file in manifest.files:
                if file.table == name:
                    for lines in _batches(folder / file.path):
                        connection.execute(query, ("\n".join(lines),))
                        done += len(lines)
                        tell(name, done)
            if done != manifest.counts[name]:
                raise damaged(f"the dump has {done} rows of {name}, not {manifest.counts[name]}")
        _raise_sequences(connection, manifest)
        _triggers(connection, "ENABLE")


def _triggers(connection: psycopg.Connection[Any], verb: str) -> None:
    for name in ("items", "users"):
        connection.execute(sql.SQL(f"ALTER TABLE {{}} {verb} TRIGGER USER").format(Identifier(name)))


def _raise_sequences(connection: psycopg.Connection[Any], manifest: Manifest) -> None:
    """As far as they were: keys and numbers are never given twice, also where the rows that had them are gone."""
    for name, last in manifest.sequences.items():
        table, _, column = name.partition(".")
        query = sql.SQL(
            "SELECT setval(pg_get_serial_sequence({}, {}), greatest({}, (SELECT max({}) FROM {})))"
        )
        parts = (Literal(table), Literal(column), Literal(last), Identifier(column), Identifier(table))
        connection.execute(query.format(*parts))


def _batches(path: Path) -> Iterator[list[str]]:
    with (
        pa.CompressedInputStream(str(path), "zstd") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text,
    ):
        lines = (line.rstrip("\n") for line in text)
        while batch := list(islice(lines, INSERT_ROWS)):
            yield batch


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    with (
        postgres_errors(),
        psycopg.connect(url, connect_timeout=CONNECT_WAIT_S_MAX, options=OPTIONS) as connection,
    ):
        yield connection
