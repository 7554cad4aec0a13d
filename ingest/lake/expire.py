"""How long the lake keeps what: days that are older than the operator wants are removed, whole days at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingest.lake.files import LakeFiles
from ingest.lake.names import KIND_FOLDER


def expire(files: LakeFiles, keep_days: int, now_s: float) -> int:
    """Removes the files of days that ended more than `keep_days` ago (0: none); returns how many."""
    if not keep_days:
        return 0
    first_kept = (datetime.fromtimestamp(now_s, UTC) - timedelta(days=keep_days)).strftime("date=%Y-%m-%d")
    removed = 0
    for day in files.list(KIND_FOLDER):
        if day.startswith("date=") and day < first_kept:
            removed += _remove(files, f"{KIND_FOLDER}/{day}")
    return removed


def _remove(files: LakeFiles, folder: str) -> int:
    found = files.walk(folder)
    for path, _ in found:
        files.remove(path)
    return len(found)
