"""Many small files of an hour into one for each partition, while readers read and the sink writes.

The new file is made first and the old ones are moved out of the way then: a kill in between leaves files that the new one's
name says are replaced, and the next run clears them away. Nothing is deleted before SUPERSEDED_KEEP_S.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from ingest.lake.files import LakeFiles, ThereAlreadyError
from ingest.lake.listing import hours
from ingest.lake.names import SUPERSEDED_FOLDER, Part, current, part_of
from ingest.lake.table import footer_of, read_table, to_parquet

HOUR_S = 3_600
SETTLE_S = 600.0  # an hour is left alone for so long after its end: what the stream had then has come
HOURS_MAX = 48  # looked back at in one run, so that a sink that was down for a weekend is caught up within two
COMPACT_BYTES_MAX = 256 * 1024**2  # of what is put together: it is in memory, several times over


@dataclass(frozen=True)
class Compacted:
    """What one run has done."""

    files_before: int
    files_after: int


def compact(
    files: LakeFiles, partition: int, now_s: float, check: Callable[[], None], hours_max: int = HOURS_MAX
) -> Compacted:
    """Compacts the finished hours of a partition. `check` raises when another process may do it too by now.

    Raises StateError for that; DependencyError, OverloadError. What was finished stays; run again, it goes on.
    """
    before = after = 0
    for folder in _finished(files, now_s, hours_max):
        found = [part for name in files.list(folder) if (part := part_of(folder, name))]
        mine = [part for part in found if part.partition == partition]
        for group in groups_of(files, current(mine)):
            _unite(files, group, check)
            before, after = before + len(group), after + 1
        _clear(files, folder, partition)
    return Compacted(before, after)


def groups_of(files: LakeFiles, parts: list[Part]) -> Iterator[list[Part]]:
    """Runs of neighbours that together stay within COMPACT_BYTES_MAX, of two files at least."""
    if len(parts) < 2:
        return
    sizes = {path: size for path, size in files.walk(parts[0].folder)}
    group: list[Part] = []
    size = 0
    for part in parts:
        own = sizes.get(part.path, 0)
        if group and (size + own > COMPACT_BYTES_MAX or part.first != group[-1].last + 1):
            if len(group) > 1:
                yield group
            group, size = [], 0
        group.append(part)
        size += own
    if len(group) > 1:
        yield group


def _unite(files: LakeFiles, group: list[Part], check: Callable[[], None]) -> None:
    data = [files.read(part.path) for part in group]
    table = pa.concat_tables([read_table(each) for each in data], promote_options="default")
    last_offset = max(footer_of(each).last_offset for each in data)
    whole = to_parquet(table, last_offset)
    if read_table(whole).num_rows != sum(footer_of(each).rows for each in data):
        raise AssertionError(f"{group[0].folder}: a compacted file lacks rows")
    check()
    try:
        files.create(Part(group[0].folder, group[0].partition, group[0].first, group[-1].last).path, whole)
    except ThereAlreadyError:
        return  # a run before was killed after making it; what it replaces is cleared away next


def _clear(files: LakeFiles, folder: str, partition: int) -> None:
    """Moves what is replaced out of the folder; in the place where it goes it has the same path."""
    parts = [part for name in files.list(folder) if (part := part_of(folder, name)) and part.partition == partition]
    kept = set(current(parts))
    for part in parts:
        if part not in kept:
            files.move(part.path, f"{SUPERSEDED_FOLDER}/{part.path}")


def _finished(files: LakeFiles, now_s: float, hours_max: int) -> Iterator[str]:
    end = datetime.fromtimestamp(now_s - SETTLE_S - HOUR_S, UTC)
    limit = f"date={end:%Y-%m-%d}/hour={end:%H}"
    finished = (folder for folder in hours(files) if folder.partition("/")[2] <= limit)
    return (folder for folder, _ in zip(finished, range(hours_max), strict=False))


