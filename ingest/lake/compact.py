"""Many small files of an hour into one for each partition, while readers read and the sink writes.

The new file is made first and the old ones are moved out of the way then: a kill in between leaves files that the new one's
name says are replaced, and the next run clears them away. Nothing is deleted here (ingest/lake/expire.py).

Two may be at it, if one was paused and does not know that it lost the partition. No harm comes of it: whatever each of them
makes, of two files one holds all that the other holds. For an hour that the sink has left is united whole, and of one that
may still grow only numbers of the same block are put together, from the first on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

import pyarrow as pa

from ingest.lake.files import LakeFiles, ThereAlreadyError
from ingest.lake.listing import gaps, hours
from ingest.lake.names import EVENTS, Part, current, part_of, superseded
from ingest.lake.table import footer_of, read_table, to_parquet, united, without_doubles

HOUR_S = 3_600
SETTLE_S = 600.0  # an hour is left alone for so long after its end: what the stream had then has come
HOURS_MAX = (
    48  # looked back at in one run, so that a sink that was down for a weekend is caught up within two
)
COMPACT_BYTES_MAX = (
    32 * 1024**2
)  # of what is put together, 800,000 events: takes some 425 MB of memory meanwhile
BLOCK_FILES = 32  # put together where a whole hour is too much: 1 MB each at most, as the sink writes them


@dataclass(frozen=True)
class Compacted:
    """What one run has done. `doubles` were removed: events that stood twice in their hour.

    `damaged`: first files of what was left as it is, since one of them can't be read.
    """

    files_before: int = 0
    files_after: int = 0
    doubles: int = 0
    damaged: tuple[str, ...] = ()

    def __add__(self, other: Compacted) -> Compacted:
        both = (self.files_before + other.files_before, self.files_after + other.files_after)
        return Compacted(*both, self.doubles + other.doubles, self.damaged + other.damaged)


def compact(
    files: LakeFiles,
    partition: int,
    now_s: float,
    check: Callable[[], None],
    kind: str = EVENTS,
    hours_max: int = HOURS_MAX,
) -> Compacted:
    """Compacts the finished hours of a partition. `check` raises when another process may do it too by now.

    Raises StateError for that; DependencyError, OverloadError. What was finished stays; run again, it goes on.
    """
    done = Compacted()
    has_later = False  # a file of a later hour: entries come in order, so that this hour is whole
    for folder in hours(files, kind):
        mine = _parts(files, folder, partition)
        if _is_finished(folder, now_s) and len(mine) > 1:
            done += _compact_hour(files, current(mine), has_later, check)
            _clear(files, folder, partition)
        if _is_finished(folder, now_s):
            hours_max -= 1
        has_later = has_later or bool(mine)
        if hours_max <= 0:
            break
    return done


def _compact_hour(
    files: LakeFiles, parts: list[Part], is_whole: bool, check: Callable[[], None]
) -> Compacted:
    if len(parts) < 2:
        return Compacted()
    sizes = {found.path: found.bytes for found in files.walk(parts[0].folder)}
    size = sum(sizes.get(part.path, 0) for part in parts)
    is_one = is_whole and size <= COMPACT_BYTES_MAX and not any(gaps(parts))
    groups = [parts] if is_one else groups_of(parts)
    return sum((_unite(files, group, check) for group in groups), Compacted())


def groups_of(parts: list[Part]) -> Iterator[list[Part]]:
    """Neighbours within the same block of numbers, of two files at least; none across a gap, for that would hide it."""
    broken = {after for _, after in gaps(parts)}
    run = 0

    def place(part: Part) -> tuple[int, int]:
        nonlocal run
        run += part in broken
        return run, (part.last - 1) // BLOCK_FILES

    groups = [list(group) for _, group in groupby(parts, key=place)]
    return (group for group in groups if len(group) > 1)


def _unite(files: LakeFiles, group: list[Part], check: Callable[[], None]) -> Compacted:
    kind = group[0].kind
    check()
    try:
        data = [files.read(part.path) for part in group]
        footers = [footer_of(each) for each in data]
        table = united([read_table(each) for each in data])
    except FileNotFoundError:
        return Compacted()  # another was quicker
    except (pa.ArrowException, OSError):
        return Compacted(damaged=(group[0].path,))
    kept = without_doubles(table) if kind == EVENTS else table
    whole = to_parquet(kept, footers[-1].last_offset, kind, footers[-1].source)
    if read_table(whole).num_rows != kept.num_rows or table.num_rows != sum(each.rows for each in footers):
        raise AssertionError(f"{group[0].folder}: a compacted file lacks rows")
    check()
    try:
        files.create(Part(group[0].folder, group[0].partition, group[0].first, group[-1].last).path, whole)
    except ThereAlreadyError:
        return Compacted()  # another was quicker; what it replaces is cleared away next
    return Compacted(len(group), 1, table.num_rows - kept.num_rows)


def _clear(files: LakeFiles, folder: str, partition: int) -> None:
    """Moves what is replaced out of the folder; in the place where it goes it has the same path."""
    parts = _parts(files, folder, partition)
    kept = set(current(parts))
    for part in parts:
        if part not in kept:
            files.move(part.path, superseded(part.path))


def _parts(files: LakeFiles, folder: str, partition: int) -> list[Part]:
    found = (part_of(folder, name) for name in files.list(folder))
    return [part for part in found if part and part.partition == partition]


def _is_finished(folder: str, now_s: float) -> bool:
    end = datetime.fromtimestamp(now_s - SETTLE_S - HOUR_S, UTC)
    return folder.partition("/")[2] <= f"date={end:%Y-%m-%d}/hour={end:%H}"
