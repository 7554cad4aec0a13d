"""What the lake holds: its parts, and where a partition ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from reco.errors.v1 import error_reason_pb2

from ingest.lake.files import LakeFiles
from ingest.lake.names import KIND_FOLDER, Part, current, half_of, part_at, part_of
from ingest.lake.table import footer_of
from runtime.errors import StateError, store_unavailable


@dataclass(frozen=True)
class End:
    """Where a partition ends in the lake: the number of its last file, and the last entry (packed offset) in it."""

    number: int = 0
    offset: int = 0


def parts_of(files: LakeFiles) -> dict[Part, int]:
    """All parts that none replaces, with their sizes in bytes, sorted by path. One look, so it may be old when it is used."""
    sizes = {part: size for path, size in files.walk(KIND_FOLDER) if (part := part_at(path))}
    return {part: sizes[part] for part in current(sizes)}


def end_of(files: LakeFiles, partition: int) -> End:
    """Where a partition ends; newest folders first. Half files that a kill has left of it are removed on the way."""
    for folder in hours(files):
        names = files.list(folder)
        for name in names:
            if half_of(name) == partition:
                files.remove(f"{folder}/{name}")
        parts = [part for name in names if (part := part_of(folder, name)) and part.partition == partition]
        if parts:
            last = max(parts, key=lambda part: (part.last, -part.first))
            return End(last.last, _last_offset(files, last))
    return End()


def _last_offset(files: LakeFiles, part: Part) -> int:
    """No event is at fault for what goes wrong here: an error of another kind would set it aside."""
    try:
        return footer_of(files.read(part.path)).last_offset
    except FileNotFoundError as error:  # compacted just now
        raise store_unavailable("lake", error) from error
    except (pa.ArrowException, OSError) as error:
        message = f"{part.path} is damaged, so where partition {part.partition} ends is not known; see `reco lake verify`"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from error


def hours(files: LakeFiles) -> Iterator[str]:
    """The folders of hours, newest first; what others have put beside them is passed over."""
    for date in reversed([name for name in files.list(KIND_FOLDER) if name.startswith("date=")]):
        folder = f"{KIND_FOLDER}/{date}"
        for hour in reversed([name for name in files.list(folder) if name.startswith("hour=")]):
            yield f"{folder}/{hour}"
