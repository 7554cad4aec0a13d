"""In which hours of which partitions Postgres and the lake have other events: only those are read one by one.

When Redis is lost, one sink may have had events that another never got, and both have gone on since: where they end says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import duckdb
import psycopg

from profiles.offsets import SEQUENCE_BITS

HOUR_MS = 3_600_000
Hour = tuple[int, int]  # partition, hours since 1970
Hours = dict[Hour, tuple[int, int]]  # how many events, and the sum of their offsets

# Rows from before there were places in the stream have none.
POSTGRES = f"""SELECT stream_partition, (stream_offset >> {SEQUENCE_BITS}) / {HOUR_MS}, count(*), sum(stream_offset)
  FROM events WHERE stream_offset > 0 GROUP BY 1, 2"""  # noqa: S608 -- constants of ours
_LAKE = f"""SELECT (stream_offset >> {SEQUENCE_BITS}) // {HOUR_MS}, count(*), sum(stream_offset)
  FROM read_parquet([{{files}}], union_by_name = true, hive_partitioning = false) GROUP BY 1"""  # noqa: S608


def lake_hours(connection: duckdb.DuckDBPyConnection, files: Mapping[int, Sequence[str]]) -> Hours:
    """From the files of each partition, by the one column."""
    found: Hours = {}
    for partition, names in files.items():
        rows = connection.execute(_LAKE.format(files=quoted(names))).fetchall()
        found |= {(partition, hour): (count, total) for hour, count, total in rows}
    return found


def postgres_hours(connection: psycopg.Connection) -> Hours:
    """From all days that there are: a scan of the table."""
    return of_rows(connection.execute(cast(Any, POSTGRES)).fetchall())


def of_rows(rows: Sequence[tuple[Any, ...]]) -> Hours:
    """What the query POSTGRES answers."""
    return {(partition, hour): (count, int(total)) for partition, hour, count, total in rows}


def differing(ours: Hours, theirs: Hours) -> list[Hour]:
    """Hours of `ours` that are otherwise in `theirs`, sorted."""
    return sorted(hour for hour, figures in ours.items() if theirs.get(hour) != figures)


def offsets_of(hour: int) -> tuple[int, int]:
    """The first packed offset of an hour, and that of the next one."""
    return hour * HOUR_MS << SEQUENCE_BITS, (hour + 1) * HOUR_MS << SEQUENCE_BITS


def hour_of(folder: str) -> int:
    """Hours since 1970 of a folder .../date=YYYY-MM-DD/hour=HH."""
    date, hour = (part.partition("=")[2] for part in folder.split("/")[-2:])
    return int(datetime.strptime(f"{date} {hour}+0000", "%Y-%m-%d %H%z").astimezone(UTC).timestamp()) // 3_600


def quoted(names: Sequence[str]) -> str:
    """File names as a list in SQL."""
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)
