"""How much the lake holds, by kind and day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ingest.lake.files import LakeFiles
from ingest.lake.listing import parts_of
from ingest.lake.manifest import READERS, newest
from ingest.lake.names import KINDS, Part
from ingest.lake.table import read_footer


@dataclass(frozen=True)
class Day:
    """One day of a kind, UTC."""

    kind: str
    date: str
    files: int
    rows: int
    bytes: int


def days(files: LakeFiles, kinds: Sequence[str] = KINDS) -> list[Day]:
    """By kind, then by day. Rows are the files' own word. Raises DependencyError when the store does not answer."""
    manifest = newest(files)
    known = {entry.path: entry.rows for entry in manifest.files} if manifest else {}
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    with ThreadPoolExecutor(READERS) as pool:
        for kind in kinds:
            parts = parts_of(files, kind)
            rows = pool.map(lambda part: _rows(files, part, known), parts)
            for (part, size), count in zip(parts.items(), rows, strict=True):
                found[kind, part.date].append((count, size))
    return [
        Day(kind, date, len(each), sum(rows for rows, _ in each), sum(size for _, size in each))
        for (kind, date), each in found.items()
    ]


def _rows(files: LakeFiles, part: Part, known: dict[str, int]) -> int:
    if part.path in known:
        return known[part.path]
    try:
        return read_footer(files, part.path).rows
    except FileNotFoundError:
        return 0  # compacted since it was listed
