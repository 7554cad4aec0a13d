"""What the lake holds: its files, and where a partition ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
from reco.errors.v1 import error_reason_pb2

from ingest.lake.files import Found, LakeFiles
from ingest.lake.names import (
    EVENTS,
    SUPERSEDED_FOLDER,
    Part,
    current,
    half_of,
    kind_folder,
    part_at,
    part_of,
    superseded,
)
from ingest.lake.table import Footer, read_footer
from runtime.errors import StateError, store_unavailable

LOOKS_MAX = 4  # at a lake that changes under our eyes; one with a real gap looks torn every time


@dataclass(frozen=True)
class End:
    """Where a partition ends in the lake: the number of its last file, how far that goes, and where it lies.

    `offset` is that of the last entry of the stream (packed); of changes, the first transaction that is not exported yet.
    """

    number: int = 0
    offset: int = 0
    folder: str = ""
    source: str = ""


def parts_of(files: LakeFiles, kind: str = EVENTS) -> dict[Part, int]:
    """All parts that none replaces, with their sizes in bytes, sorted by path. One look, so it may be old when it is used."""
    sizes = {part: found.bytes for found in _look(files, kind) if (part := part_at(found.path))}
    return {part: sizes[part] for part in current(sizes)}


def readable(files: LakeFiles, kind: str = EVENTS) -> list[str]:
    """Paths of all that is to be read, sorted: our files that none replaces, and Parquet that others have put beside them."""
    paths = [found.path for found in _look(files, kind) if _is_seen(found.path)]
    parts = {path: part for path in paths if (part := part_at(path))}
    kept = set(current(parts.values()))
    return [path for path in paths if path not in parts or parts[path] in kept]


def gaps(parts: Iterable[Part]) -> Iterator[tuple[Part, Part]]:
    """Neighbours of a partition between whose numbers some are missing, or that share some. Old days may be gone, so not the first."""
    ordered = sorted(parts, key=lambda part: (part.kind, part.partition, part.first))
    for before, after in pairwise(ordered):
        same = (before.kind, before.partition) == (after.kind, after.partition)
        if same and after.first != before.last + 1:
            yield before, after


def _look(files: LakeFiles, kind: str) -> list[Found]:
    """What lies there, in one piece: no store lists many files at one instant, and compaction and the sink go on meanwhile."""
    found = files.walk(kind_folder(kind))
    for _ in range(LOOKS_MAX - 1):
        # After it: what was moved away before we came by is there by now.
        moved = files.walk(superseded(kind_folder(kind)))
        if not _is_torn(found, moved):
            break
        found = files.walk(kind_folder(kind))
    return found


def _is_torn(found: Iterable[Found], moved: Iterable[Found]) -> bool:
    there = {part for each in found if (part := part_at(each.path))}
    replaced = {part for each in moved if (part := part_at(each.path.removeprefix(f"{SUPERSEDED_FOLDER}/")))}
    seen = current(there)
    # The newest is not seen and the ones that it replaces are gone; or the newest is seen and the one before it is not.
    return not set(current([*there, *replaced])) <= set(seen) or any(gaps(seen))


def end_of(files: LakeFiles, partition: int, kind: str = EVENTS) -> End:
    """Where a partition ends; newest folders first. Half files that a kill has left of it are removed on the way."""
    for folder in hours(files, kind):
        names = files.list(folder)
        for name in names:
            if half_of(name) == partition:
                files.remove(f"{folder}/{name}")
        parts = [part for name in names if (part := part_of(folder, name)) and part.partition == partition]
        if parts:
            last = max(parts, key=lambda part: (part.last, -part.first))
            footer = _footer(files, last)
            return End(last.last, footer.last_offset, folder, footer.source)
    return End()


def hours(files: LakeFiles, kind: str = EVENTS) -> Iterator[str]:
    """The folders of hours, newest first; what others have put beside them is passed over."""
    for date in reversed([name for name in files.list(kind_folder(kind)) if name.startswith("date=")]):
        folder = f"{kind_folder(kind)}/{date}"
        for hour in reversed([name for name in files.list(folder) if name.startswith("hour=")]):
            yield f"{folder}/{hour}"


def _footer(files: LakeFiles, part: Part) -> Footer:
    """No event is at fault for what goes wrong here: an error of another kind would set it aside."""
    try:
        return read_footer(files, part.path)
    except FileNotFoundError as error:  # compacted just now
        raise store_unavailable("lake", error) from error
    except (pa.ArrowException, OSError) as error:
        message = f"{part.path} is damaged, so where partition {part.partition} ends is not known; see `reco lake verify`"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from error


def _is_seen(path: str) -> bool:
    return path.endswith(".parquet") and not any(name.startswith((".", "_")) for name in path.split("/"))
