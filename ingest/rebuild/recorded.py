"""All recorded events by subject: the lake's, the rows of Postgres and the entries of the stream that are newer than it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from redis.asyncio import Redis

from ingest.events import StreamEvent, decode, micros_of
from ingest.lake.files import LakeFiles
from ingest.lake.listing import parts_of
from ingest.lake.names import EVENTS, Part, part_of
from ingest.lake.query import read
from ingest.lake.table import read_footer
from ingest.rebuild import hours, limits
from ingest.rebuild.hours import Hours
from ingest.stream import SINKS, entry_of, stream_key
from profiles.fold import Histories
from profiles.offsets import entry_id_of
from profiles.signals import signal_of
from runtime.postgres import Pool, postgres_errors, server_cursor
from runtime.redis_client import redis_errors

TAIL = pa.schema([
    pa.field("partition", pa.int32()), pa.field("subject", pa.string()), pa.field("item_key", pa.int64()),
    pa.field("signal", pa.int64()), pa.field("time_s", pa.int64()), pa.field("stream_offset", pa.int64()),
    pa.field("event_id", pa.string()), pa.field("accept_micros", pa.int64()),
])  # fmt: skip
Ends = dict[int, int]  # packed offsets by partition


def lake_ends(files: LakeFiles, partition_count: int) -> Ends:
    """How far the lake goes in each partition. Raises DependencyError."""
    newest: dict[int, Part] = {}
    for part in parts_of(files):
        before = newest.get(part.partition)
        if before is None or part.last > before.last:
            newest[part.partition] = part
    ends = {number: read_footer(files, part.path).last_offset for number, part in newest.items()}
    return {number: ends.get(number, 0) for number in range(partition_count)}


async def postgres_ends(pool: Pool, partition_count: int) -> Ends:
    """How far Postgres goes in each partition. Raises DependencyError."""
    query = "SELECT p, coalesce((SELECT max(stream_offset) FROM events WHERE stream_partition = p), 0) FROM generate_series(0, %s) AS p"
    with postgres_errors():
        async with pool.connection() as connection:
            rows = await (await connection.execute(query, (partition_count - 1,))).fetchall()
    return dict(rows)


def lake_figures(files: LakeFiles, partition_count: int) -> Hours:
    """How many events of which places the lake has, by hour. Raises DependencyError."""

    def work(connection: duckdb.DuckDBPyConnection, names: Mapping[str, Sequence[str]]) -> Hours:
        return hours.lake_hours(connection, by_partition(names[EVENTS], range(partition_count)))

    return read(files, work)


async def only_in_postgres(pool: Pool, lake: Hours) -> AsyncIterator[pa.Table]:
    """Rows (TAIL) of the hours that Postgres has otherwise than the lake, a bounded number at a time."""
    query = """SELECT stream_partition, subject, item_key, type, value, floor(extract(epoch FROM event_time))::bigint,
      stream_offset, event_id, (extract(epoch FROM accept_time) * 1000000)::bigint
      FROM events WHERE stream_partition = %s AND stream_offset >= %s AND stream_offset < %s"""
    with postgres_errors():
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0")  # a scan of all that Postgres keeps
            ours = await (await connection.execute(cast(Any, hours.POSTGRES))).fetchall()
            for partition, hour in hours.differing(hours.of_rows(ours), lake):
                async with server_cursor(connection, "only_in_postgres") as cursor:
                    await cursor.execute(query, (partition, *hours.offsets_of(hour)))
                    while rows := await cursor.fetchmany(limits.TAIL_ROWS):
                        yield _tail([_postgres_row(row) for row in rows])


def _postgres_row(row: tuple[Any, ...]) -> tuple[object, ...]:
    return (row[0], row[1], row[2], int(signal_of(row[3], row[4] or 0.0)), *row[5:])


async def newer_in_stream(redis: Redis, after: Ends, up_to: Ends) -> AsyncIterator[pa.Table]:
    """Entries (TAIL) that lie behind `after` of their partition, up to `up_to`, a bounded number at a time."""
    for partition, end in up_to.items():
        start = after[partition]
        while start < end:
            with redis_errors():
                rows: Any = await redis.xrange(
                    stream_key(partition), f"({entry_id_of(start)}", entry_id_of(end), limits.TAIL_ROWS
                )
            if not rows:
                break
            entries = [entry_of(place, fields) for place, fields in rows]
            start = entries[-1].offset
            events, _ = decode(entries, SINKS[0])
            if events:
                yield _tail([_row(partition, event) for event in events])


def _row(partition: int, event: StreamEvent) -> tuple[object, ...]:
    accepted, sent = event.accepted, event.accepted.event
    return (
        partition, event.subject, accepted.item_key, int(signal_of(sent.type, sent.value)), sent.event_time.seconds,
        event.offset, sent.id, micros_of(accepted.accept_time),
    )  # fmt: skip


def _tail(rows: Sequence[tuple[object, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, TAIL, strict=True)], schema=TAIL
    )


def gather(
    connection: duckdb.DuckDBPyConnection, names: Sequence[str], tail: Path, up_to: Ends, scratch: Path
) -> None:
    """The view `recorded`: what the files of those names and the Parquet file `tail` hold, up to `up_to` of each partition."""
    connection.execute(f"SET memory_limit = '{limits.MEMORY_LIMIT}'")
    connection.execute(f"SET temp_directory = '{scratch}'")
    connection.execute("SET preserve_insertion_order = false")
    parts = [
        _of_file(partition, of_one, up_to[partition])
        for partition, of_one in by_partition(names, up_to).items()
    ]
    parts.append(f"""SELECT * FROM read_parquet('{tail}') WHERE stream_offset <= CASE partition
      {" ".join(f"WHEN {partition} THEN {end}" for partition, end in up_to.items())} ELSE 0 END""")  # noqa: S608
    connection.execute(f"CREATE OR REPLACE VIEW recorded AS {' UNION ALL BY NAME '.join(parts)}")


def by_partition(names: Sequence[str], partitions: Container[int]) -> Mapping[int, list[str]]:
    """Files that the sink wrote; what others have put beside them never was in the stream."""
    found: dict[int, list[str]] = {}
    for name in names:
        part = part_of("", name.rpartition("/")[2])
        if part and part.partition in partitions:
            found.setdefault(part.partition, []).append(name)
    return found


def _of_file(partition: int, names: Sequence[str], end: int) -> str:
    return f"""SELECT {partition}::INTEGER AS partition, subject, item_key::BIGINT AS item_key, signal::BIGINT AS signal,
      epoch_us(event_time) // 1000000 AS time_s, stream_offset, event_id, epoch_us(accept_time) AS accept_micros
      FROM read_parquet([{hours.quoted(names)}], union_by_name = true, hive_partitioning = false) WHERE stream_offset <= {end}"""  # noqa: S608


def histories(connection: duckdb.DuckDBPyConnection) -> Iterator[Histories]:
    """The view's events, each subject's whole, in batches of some BATCH_ROWS."""
    query = """SELECT subject, time_s, signal, item_key, stream_offset, hash(event_id) AS id, accept_micros FROM recorded
      ORDER BY subject, stream_offset"""
    left: pa.Table | None = None
    for batch in connection.sql(query).to_arrow_reader(limits.BATCH_ROWS):
        table = pa.Table.from_batches([batch])
        table = pa.concat_tables([left, table]) if left is not None else table
        start = _start_of_last(table)
        if start:
            yield _histories(table.slice(0, start))
        left = table.slice(start)
    if left is not None and left.num_rows:
        yield _histories(left)


def _start_of_last(table: pa.Table) -> int:
    """Where the last subject begins: it may go on in the next batch."""
    subjects = table["subject"]
    return int(pc.index(subjects, subjects[-1]).as_py()) if len(subjects) else 0


def _histories(table: pa.Table) -> Histories:
    table = table.combine_chunks()
    subjects = table["subject"].combine_chunks()
    is_other = pc.not_equal(subjects[1:], subjects[:-1]).to_numpy(zero_copy_only=False)
    first = np.concatenate(([0], np.flatnonzero(is_other) + 1)).astype(np.int64)
    columns = [
        table[name].to_numpy()
        for name in ("time_s", "signal", "item_key", "stream_offset", "id", "accept_micros")
    ]
    return Histories(
        subjects.take(pa.array(first)).to_pylist(), np.append(first, table.num_rows),
        *(np.array(column) for column in columns),
    )  # fmt: skip
