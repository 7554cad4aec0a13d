"""How long the lake keeps what: whole days that are older than the operator wants go, and replaced files that nobody reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingest.lake.files import LakeFiles
from ingest.lake.manifest import numbers, read_manifest
from ingest.lake.names import (
    EVENTS,
    HALF_SUFFIX,
    KINDS,
    MANIFEST_FOLDER,
    SUPERSEDED_FOLDER,
    kind_folder,
    superseded,
)

# A reader without a manifest has listed the lake and opens its files one by one; it looks again where one has moved.
SUPERSEDED_KEEP_S = 3_600
HALF_KEEP_S = 86_400  # nobody writes one file for so long; a sink clears its own away when it begins


def expire(files: LakeFiles, keep_days: int, now_s: float) -> int:
    """Removes events of days that ended `keep_days` ago or earlier (0: none); returns how many files.

    Changes of items and users stay: the newest of each, from which the catalogue is rebuilt, may be years old.
    """
    if not keep_days:
        return 0
    first_kept = (datetime.fromtimestamp(now_s, UTC) - timedelta(days=keep_days)).strftime("date=%Y-%m-%d")
    removed = 0
    for folder in (kind_folder(EVENTS), superseded(kind_folder(EVENTS))):
        old = [day for day in files.list(folder) if day.startswith("date=") and day < first_kept]
        removed += sum(_remove(files, f"{folder}/{day}") for day in old)
    return removed


def remove_superseded(files: LakeFiles, now_s: float) -> int:
    """Removes files that were replaced SUPERSEDED_KEEP_S ago and that no manifest names which is kept; returns how many."""
    named = {entry.path for number in numbers(files) for entry in read_manifest(files, number).files}
    old = [
        found.path
        for found in files.walk(SUPERSEDED_FOLDER)
        if found.time_s < now_s - SUPERSEDED_KEEP_S
        and found.path.removeprefix(f"{SUPERSEDED_FOLDER}/") not in named
    ]
    files.remove(*old)
    return len(old)


def remove_halves(files: LakeFiles, now_s: float) -> int:
    """Removes half files that a kill has left a day ago; returns how many."""
    removed = 0
    for folder in (*map(kind_folder, KINDS), MANIFEST_FOLDER):
        for found in files.walk(folder):
            name = found.path.rpartition("/")[2]
            if name.startswith(".") and name.endswith(HALF_SUFFIX) and found.time_s < now_s - HALF_KEEP_S:
                files.remove(found.path)
                removed += 1
    return removed


def _remove(files: LakeFiles, folder: str) -> int:
    found = files.walk(folder)
    files.remove(*(each.path for each in found))
    return len(found)
