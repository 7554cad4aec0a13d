"""Whether the lake is whole: each file can be read, is sorted, lies where it belongs, and no event stands in it twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from ingest.lake.files import LakeFiles, lake_errors
from ingest.lake.listing import gaps, parts_of
from ingest.lake.names import (
    EVENTS,
    KINDS,
    Part,
    current,
    folder_of,
    kind_folder,
    part_at,
    superseded,
)
from ingest.lake.query import connect
from ingest.lake.table import ORDERS, read_table
from profiles.offsets import SEQUENCE_BITS

DOUBLES_SHOWN_MAX = 5


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file, and what can be done."""

    path: str
    message: str


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    faults: tuple[Fault, ...] = ()

    def __add__(self, other: Report) -> Report:
        return Report(
            self.files + other.files,
            self.rows + other.rows,
            self.bytes + other.bytes,
            self.faults + other.faults,
        )


def verify(files: LakeFiles, kinds: Sequence[str] = KINDS) -> Report:
    """Reads every file, checksums of its pages included. Raises DependencyError when the store does not answer."""
    return sum((_verify(files, kind) for kind in kinds), Report())


def repair(files: LakeFiles) -> int:
    """Moves files that another replaces out of the way: what a kill has left of a compaction. Returns how many."""
    left = [part for kind in KINDS for part in _replaced_parts(files, kind)]
    for part in left:
        files.move(part.path, superseded(part.path))
    return len(left)


def _verify(files: LakeFiles, kind: str) -> Report:
    parts = parts_of(files, kind)
    rows, readable = 0, []
    faults = [*_replaced(files, kind), *_gaps(parts)]
    for part in parts:
        table, found = _look_at(files, part)
        faults += found
        if table is not None:
            rows += table.num_rows
            readable.append(part.path)
    faults += _doubles(files, kind, readable)
    return Report(len(parts), rows, sum(parts.values()), tuple(faults))


def _look_at(files: LakeFiles, part: Part) -> tuple[pa.Table | None, list[Fault]]:
    try:
        table = read_table(files.read(part.path))
    except FileNotFoundError:
        return None, []  # compacted since it was listed
    except (pa.ArrowException, OSError) as error:
        return None, [Fault(part.path, f"can't be read: {str(error).splitlines()[0]}")]
    return table, [Fault(part.path, message) for message in _wrong(table, part)]


def _wrong(table: pa.Table, part: Part) -> Iterator[str]:
    if table.num_rows == 0:
        yield "holds nothing"
    keys = [name for name, _ in ORDERS[part.kind]]
    if not table.select(keys).equals(table.select(keys).sort_by(list(ORDERS[part.kind]))):
        yield f"is not sorted by {', '.join(keys)}"
    if part.kind == EVENTS:
        offsets = table["stream_offset"].unique().to_pylist()
        strangers = {folder_of(offset >> SEQUENCE_BITS) for offset in offsets} - {part.folder}
        if strangers:
            yield f"holds events of {sorted(strangers)[0]}"


def _replaced_parts(files: LakeFiles, kind: str) -> list[Part]:
    found = [part for each in files.walk(kind_folder(kind)) if (part := part_at(each.path))]
    return sorted(set(found) - set(current(found)))


def _replaced(files: LakeFiles, kind: str) -> list[Fault]:
    message = "is replaced by a compacted file beside it: other engines count its rows twice; `--repair` moves it away"
    return [Fault(part.path, message) for part in _replaced_parts(files, kind)]


def _gaps(parts: Iterable[Part]) -> Iterator[Fault]:
    for before, after in gaps(parts):
        wrong = "a file is missing" if after.first > before.last else "their rows stand there twice"
        yield Fault(after.path, f"follows {before.name}: {wrong}")


def _doubles(files: LakeFiles, kind: str, paths: list[str]) -> list[Fault]:
    """Of events alone: changes come again, and are told, where Postgres was set back (ingest/lake/changes.py)."""
    if kind != EVENTS:
        return []
    query = """SELECT event_id, count(*) FROM events GROUP BY event_id, subject, stream_offset HAVING count(*) > 1
      ORDER BY ALL LIMIT ?"""
    with lake_errors("the lake"), connect(files, {kind: paths}) as connection:
        try:
            found = connection.execute(query, [DOUBLES_SHOWN_MAX]).fetchall()
        except duckdb.IOException:
            return []  # a file was compacted since it was read; where that is not so, reading it said what is wrong
    return [
        Fault(kind_folder(kind), f"event {event_id} stands there {count} times") for event_id, count in found
    ]
