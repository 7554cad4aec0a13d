"""Whether the lake is whole: each file can be read, is sorted, lies where it belongs, and no event stands in it twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from ingest.lake.files import LakeFiles
from ingest.lake.listing import parts_of
from ingest.lake.names import KIND_FOLDER, SUPERSEDED_FOLDER, Part, current, folder_of, part_at
from ingest.lake.query import connect
from ingest.lake.table import ORDER, read_table
from profiles.offsets import SEQUENCE_BITS

DOUBLES_SHOWN_MAX = 5


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file, and what can be done."""

    path: str
    message: str


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    faults: tuple[Fault, ...] = ()


def verify(files: LakeFiles) -> Report:
    """Reads every file, checksums of its pages included. Raises DependencyError when the store does not answer."""
    parts = parts_of(files)
    report = Report(files=len(parts), bytes=sum(parts.values()))
    faults: list[Fault] = [*_replaced(files), *_gaps(list(parts))]
    readable = []
    for part in parts:
        table, found = _look_at(files, part)
        faults += found
        if table is not None:
            report.rows += table.num_rows
            readable.append(part.path)
    report.faults = tuple([*faults, *_doubles(files, readable)])
    return report


def repair(files: LakeFiles) -> int:
    """Moves files that another replaces out of the way: what a kill has left of a compaction. Returns how many."""
    left = _replaced_parts(files)
    for part in left:
        files.move(part.path, f"{SUPERSEDED_FOLDER}/{part.path}")
    return len(left)


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
        yield "holds no event"
    keys = [name for name, _ in ORDER]
    if not table.select(keys).equals(table.select(keys).sort_by(list(ORDER))):
        yield f"is not sorted by {', '.join(keys)}"
    offsets = table["stream_offset"].to_pylist()
    strangers = {folder_of(offset >> SEQUENCE_BITS) for offset in offsets} - {part.folder}
    if strangers:
        yield f"holds events of {sorted(strangers)[0]}"


def _replaced_parts(files: LakeFiles) -> list[Part]:
    found = [part for path, _ in files.walk(KIND_FOLDER) if (part := part_at(path))]
    return sorted(set(found) - set(current(found)))


def _replaced(files: LakeFiles) -> list[Fault]:
    message = "is replaced by a compacted file beside it: other engines count its events twice; `--repair` moves it away"
    return [Fault(part.path, message) for part in _replaced_parts(files)]


def _gaps(parts: list[Part]) -> Iterator[Fault]:
    """Numbers go on without a gap and without an overlap, from the oldest file that is left."""
    ordered = sorted(parts, key=lambda part: (part.partition, part.first))
    for before, after in pairwise(ordered):
        if before.partition == after.partition and after.first != before.last + 1:
            kind = "a file is missing" if after.first > before.last else "their events stand there twice"
            yield Fault(after.path, f"follows {before.name}: {kind}")


def _doubles(files: LakeFiles, paths: list[str]) -> Iterator[Fault]:
    with connect(files, paths) as connection:
        query = """SELECT stream_offset, subject, event_id, count(*) FROM events GROUP BY ALL HAVING count(*) > 1
          ORDER BY ALL LIMIT ?"""
        for _, _, event_id, count in connection.execute(query, [DOUBLES_SHOWN_MAX]).fetchall():
            yield Fault(KIND_FOLDER, f"event {event_id} stands there {count} times")
