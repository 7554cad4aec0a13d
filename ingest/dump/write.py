"""A running system into a folder: the lake's files first, then the tables in one snapshot of Postgres that holds the same events.

The cut: all that was acknowledged before the dump began is in it. What came in meanwhile may be in the lake's files and not yet in
Postgres, so the dump waits until Postgres has it, and leaves out what goes further.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis

from ingest.dead_letter_files import FOLDER as DEAD_LETTERS
from ingest.dump.manifest import Manifest, damaged, file_of
from ingest.dump.tables import TABLES, Table, columns_of, days_of, rows_query, sequences
from ingest.lake.files import LakeFiles, open_lake
from ingest.lake.listing import readable
from ingest.lake.names import EVENTS, KINDS, part_at
from ingest.lake.table import read_footer
from ingest.rebuild import positions
from ingest.stream import stream_key
from profiles.offsets import pack_offset
from runtime.errors import StateError
from runtime.files import sync_folder
from runtime.postgres import CONNECT_WAIT_S_MAX, postgres_errors
from runtime.redis_client import redis_errors
from runtime.settings import Settings

HALF_SUFFIX = ".half"  # of a dump that is being written
CATCH_UP_WAIT_S_MAX = 120.0  # for the sinks; the lake is 2 s behind as a rule
POLL_S = 0.25
COPY_TRIES_MAX = 4  # of the lake, while compaction moves files; it comes once an hour
FETCH_ROWS = 2_000  # of one round trip: some 1 MB
LAKE_FOLDER = "lake"
OPTIONS = "-c timezone=UTC -c statement_timeout=0 -c bytea_output=hex"

Tell = Callable[[str, int], None]  # what is being written, and how many rows or files of it so far
Ends = dict[int, int]


async def dump(settings: Settings, redis: Redis, folder: Path, tell: Tell = lambda *_: None) -> Manifest:
    """Writes a dump to `folder`, which appears when it is whole.

    Raises StateError: the folder is there, or the sinks don't catch up; DependencyError.
    """
    half = await asyncio.to_thread(_begin, folder)
    files = open_lake(settings.lake_url, settings.data_dir)
    numbers = range(settings.partition_count)
    ends = await _last_places(redis, numbers)
    await _caught_up(redis, "lake", ends)
    manifest = Manifest()
    lake_ends = await asyncio.to_thread(_copy_lake, files, half, manifest, tell)
    _refuse_lost_streams(await _last_places(redis, numbers), lake_ends)
    cut = {number: max(end, lake_ends.get(number, 0)) for number, end in ends.items()}
    await _caught_up(redis, "postgres", cut)
    await asyncio.to_thread(_dump_tables, settings.postgres_url, half, manifest, cut, tell)
    await asyncio.to_thread(_end, half, folder, manifest)
    return manifest


def _begin(folder: Path) -> Path:
    if folder.exists():
        raise damaged(f"{folder} is there already: choose another folder")
    half = folder.with_name(f"{folder.name}{HALF_SUFFIX}")
    shutil.rmtree(half, ignore_errors=True)  # of a dump that was killed
    half.mkdir(parents=True, mode=0o700)  # it holds everything that the system knows
    return half


def _end(half: Path, folder: Path, manifest: Manifest) -> None:
    manifest.write(half)
    half.rename(folder)
    sync_folder(folder.parent)


async def _last_places(redis: Redis, numbers: range) -> Ends:
    """The packed offset of the last entry ever of each stream; of streams that never had one there is nothing to wait for."""
    ends = {}
    with redis_errors():
        for number in numbers:
            if await redis.exists(stream_key(number)):
                info: Any = await redis.xinfo_stream(stream_key(number))
                ends[number] = pack_offset(info["last-generated-id"])
    return {number: end for number, end in ends.items() if end}


def _refuse_lost_streams(last: Ends, lake_ends: Ends) -> None:
    """Where a stream has begun anew, places don't tell what is newer."""
    for number, end in last.items():
        if end < lake_ends.get(number, 0):
            message = f"the stream of partition {number} lies behind the lake: Redis was lost; run `reco rebuild profiles` first"
            raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, {"store": "redis"})


async def _caught_up(redis: Redis, sink: str, ends: Ends) -> None:
    """Returns when the sink has written everything up to there. Raises StateError after CATCH_UP_WAIT_S_MAX."""
    try:
        async with asyncio.timeout(CATCH_UP_WAIT_S_MAX):
            for number, end in ends.items():
                await positions.make_group(redis, number, sink)
                while await positions.acknowledged(redis, number, sink) < end:  # noqa: ASYNC110 -- Redis knows, no event of ours does
                    await asyncio.sleep(POLL_S)
    except TimeoutError:
        message = f"the {sink} sink has not caught up within {CATCH_UP_WAIT_S_MAX:.0f} s: are the consumers running? See reco_sink_lag_seconds"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None


def _copy_lake(files: LakeFiles, folder: Path, manifest: Manifest, tell: Tell) -> Ends:
    """The lake's files as they are; where compaction moves one meanwhile, those that are there then."""
    for tried in range(COPY_TRIES_MAX):
        paths = [path for kind in KINDS for path in readable(files, kind)]
        paths += [found.path for found in files.walk(DEAD_LETTERS)]
        try:
            manifest.files = []
            for count, path in enumerate(paths, 1):
                target = folder / LAKE_FOLDER / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(files.read(path))
                manifest.files.append(file_of(folder, f"{LAKE_FOLDER}/{path}"))
                tell("the lake's files", count)
            return _ends_of(files, paths)
        except FileNotFoundError:
            if tried == COPY_TRIES_MAX - 1:
                raise
            shutil.rmtree(folder / LAKE_FOLDER, ignore_errors=True)
    raise AssertionError("the last try returns or raises")


def _ends_of(files: LakeFiles, paths: list[str]) -> Ends:
    newest: dict[int, Any] = {}
    for part in filter(None, map(part_at, paths)):
        before = newest.get(part.partition)
        if part.kind == EVENTS and (before is None or part.last > before.last):
            newest[part.partition] = part
    return {number: read_footer(files, part.path).last_offset for number, part in newest.items()}


def _dump_tables(url: str, folder: Path, manifest: Manifest, ends: Ends, tell: Tell) -> None:
    """All tables in one snapshot, row by row through a cursor of the server."""
    with (
        postgres_errors(),
        psycopg.connect(url, connect_timeout=CONNECT_WAIT_S_MAX, options=OPTIONS) as connection,
    ):
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for table in TABLES:
            columns = manifest.columns[table.name] = columns_of(connection, table)
            days: list[date | None] = [*days_of(connection, table)] if table.by_day else [None]
            manifest.days.update({table.name: [str(day) for day in days]} if table.by_day else {})
            manifest.counts[table.name] = 0
            for day in days:
                path = f"tables/{table.name}{f'/{day}' if day else ''}.jsonl.zst"
                rows = _rows(connection, table, columns, day, ends)
                count = _write(folder / path, rows, table.name, tell)
                manifest.files.append(file_of(folder, path, count, table.name))
                manifest.counts[table.name] += count
        manifest.sequences = sequences(connection)


def _rows(
    connection: psycopg.Connection[Any], table: Table, columns: list[str], day: date | None, ends: Ends
) -> Iterator[list[str]]:
    with connection.cursor(f"dump_{table.name}") as cursor:
        cursor.execute(rows_query(table, columns, day, ends))
        while rows := cursor.fetchmany(FETCH_ROWS):
            yield [row[0] for row in rows]


def _write(path: Path, batches: Iterator[list[str]], name: str, tell: Tell) -> int:
    """JSON Lines, compressed; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        for rows in batches:
            out.write("".join(f"{row}\n" for row in rows).encode())
            count += len(rows)
            tell(name, count)
    return count
