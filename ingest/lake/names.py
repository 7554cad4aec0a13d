"""Names in the lake: kind=<kind>/date=YYYY-MM-DD/hour=HH/part-<partition>-<first>-<last>.parquet.

A partition's files are numbered in order, for each kind. Who writes makes one number a file; compaction puts the numbers first to
last into one. A file whose numbers all lie within another's is superseded: readers leave it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

EVENTS = "events"  # what was accepted, by partition of the stream
ITEMS = "items"  # each change of an item, and of a user's account: one partition, 0
USERS = "users"
KINDS = (EVENTS, ITEMS, USERS)
SUPERSEDED_FOLDER = (
    "_superseded"  # what compaction has replaced; engines pass over names that begin with "_" or "."
)
MANIFEST_FOLDER = "_manifests"
HALF_SUFFIX = ".half"
_PART = re.compile(r"part-(\d+)-(\d+)-(\d+)\.parquet")
_FOLDER = re.compile(rf"kind=({'|'.join(KINDS)})/date=\d{{4}}-\d{{2}}-\d{{2}}/hour=\d{{2}}")


@dataclass(frozen=True, order=True)
class Part:
    """A file of the lake: which numbers of a partition's it holds, and where it lies."""

    folder: str
    partition: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """The name within its folder."""
        return f"part-{self.partition}-{self.first}-{self.last}.parquet"

    @property
    def path(self) -> str:
        """The path within the lake."""
        return f"{self.folder}/{self.name}"

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return self.folder.split("/")[0].removeprefix("kind=")

    @property
    def date(self) -> str:
        """YYYY-MM-DD, UTC."""
        return self.folder.split("/")[1].removeprefix("date=")

    def covers(self, other: Part) -> bool:
        """Whether it replaces `other`."""
        same = (self.folder, self.partition) == (other.folder, other.partition)
        return same and self != other and self.first <= other.first and other.last <= self.last


@dataclass(frozen=True)
class Range:
    """Days, YYYY-MM-DD, both included; empty: no bound."""

    first: str = ""
    last: str = ""

    def holds(self, path: str) -> bool:
        """Whether a file lies in one of the days; one of no day only where there is no bound."""
        date = next((name[5:] for name in path.split("/") if name.startswith("date=")), "")
        return self.first <= date and (not self.last or "" < date <= self.last)


ALL_DAYS = Range()


def part_of(folder: str, name: str) -> Part | None:
    """The part of that name; None for what others have put there."""
    match = _PART.fullmatch(name)
    return Part(folder, int(match[1]), int(match[2]), int(match[3])) if match else None


def part_at(path: str) -> Part | None:
    """The part of a path within the lake; None for any other file."""
    folder, _, name = path.rpartition("/")
    return part_of(folder, name) if _FOLDER.fullmatch(folder) else None


def current(parts: Iterable[Part]) -> list[Part]:
    """Those that no other replaces, sorted."""
    kept: list[Part] = []
    for part in sorted(parts, key=lambda part: (part.folder, part.partition, part.first, -part.last)):
        if not (kept and kept[-1].covers(part)):
            kept.append(part)
    return kept


def half_of(name: str) -> int | None:
    """The partition of a half-written file, None for other names."""
    if not (name.startswith(".") and name.endswith(HALF_SUFFIX)):
        return None
    part = part_of("", name[1:].removesuffix(HALF_SUFFIX).rpartition(".")[0])
    return part.partition if part else None


def kind_folder(kind: str) -> str:
    """The folder of a kind."""
    return f"kind={kind}"


def superseded(path: str) -> str:
    """Where a file, or a folder, is moved when it is replaced."""
    return f"{SUPERSEDED_FOLDER}/{path}"


def folder_of(time_ms: int, kind: str = EVENTS) -> str:
    """The folder of what came at `time_ms`: of events, the time of their entry in the stream."""
    time = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{kind_folder(kind)}/date={time:%Y-%m-%d}/hour={time:%H}"
