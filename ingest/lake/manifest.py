"""Manifests: which files made up the lake at a moment, so that a long read sees one state while files change.

_manifests/kind=events/<number>.json, made once and never changed. A file that compaction has replaced since is found under
_superseded/ for SUPERSEDED_KEEP_S.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import orjson
from reco.errors.v1 import error_reason_pb2

from ingest.lake.files import LakeFiles, ThereAlreadyError
from ingest.lake.listing import parts_of
from ingest.lake.names import KIND_FOLDER, MANIFEST_FOLDER, SUPERSEDED_FOLDER, part_at
from ingest.lake.table import footer_of
from runtime.errors import NotFoundError, StateError

MANIFESTS_KEPT = 48  # one an hour: two days
SUPERSEDED_KEEP_S = 86_400  # the longest read of a manifest


@dataclass(frozen=True)
class FileEntry:
    """A file of a manifest."""

    path: str
    rows: int
    bytes: int
    last_offset: int


@dataclass(frozen=True)
class Manifest:
    """The files of one moment, sorted by path. `time` is ISO 8601, UTC."""

    number: int
    time: str
    files: tuple[FileEntry, ...]

    @property
    def rows(self) -> int:
        """Events in all files."""
        return sum(entry.rows for entry in self.files)


def write_manifest(files: LakeFiles, now_s: float) -> Manifest:
    """Writes down what is there now; returns the newest manifest when nothing has changed since."""
    before = newest(files)
    known = {entry.path: entry for entry in before.files} if before else {}
    entries = tuple(
        known.get(part.path) or _entry(files, part.path, size) for part, size in parts_of(files).items()
    )
    if before and before.files == entries:
        return before
    time = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds")
    made = Manifest(before.number + 1 if before else 1, time, entries)
    try:
        files.create(_path(made.number), orjson.dumps(asdict(made), option=orjson.OPT_INDENT_2))
    except ThereAlreadyError:  # another process has just written one
        return read_manifest(files, made.number)
    for number in numbers(files)[:-MANIFESTS_KEPT]:
        files.remove(_path(number))
    return made


def numbers(files: LakeFiles) -> list[int]:
    """The numbers of the manifests that are kept, oldest first."""
    names = (name.removesuffix(".json") for name in files.list(MANIFEST_FOLDER) if name.endswith(".json"))
    return sorted(int(name) for name in names if name.isdecimal())


def newest(files: LakeFiles) -> Manifest | None:
    """The newest manifest, None when there is none yet."""
    found = numbers(files)
    return read_manifest(files, found[-1]) if found else None


def read_manifest(files: LakeFiles, number: int) -> Manifest:
    """One manifest. Raises NotFoundError; StateError for a damaged one."""
    try:
        read = orjson.loads(files.read(_path(number)))
        entries = tuple(FileEntry(**entry) for entry in read["files"])
        return Manifest(int(read["number"]), str(read["time"]), entries)
    except FileNotFoundError:
        message = f"there is no manifest {number}; see `reco lake list --manifests`"
        raise NotFoundError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message) from None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        message = f"the manifest {_path(number)} is damaged: {error}"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None


def paths_of(files: LakeFiles, manifest: Manifest) -> list[str]:
    """Where the manifest's files are now. Raises StateError when one is gone for good."""
    there = {path for folder in (KIND_FOLDER, SUPERSEDED_FOLDER) for path, _ in files.walk(folder)}
    found = [_found(there, entry.path) for entry in manifest.files]
    gone = [entry.path for entry, path in zip(manifest.files, found, strict=True) if not path]
    if gone:
        message = f"manifest {manifest.number} is too old: {len(gone)} of its files are gone, {gone[0]} among them"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
    return [path for path in found if path]


def remove_superseded(files: LakeFiles, now_s: float) -> int:
    """Removes replaced files of days that ended SUPERSEDED_KEEP_S and a day ago; returns how many.

    A file's age is that of its day, not of its replacement, which object stores don't keep: hours are compacted soon after
    their end, and an old one that is compacted later is removed after the manifest that would name it is gone, too.
    """
    limit = (datetime.fromtimestamp(now_s, UTC) - timedelta(seconds=2 * SUPERSEDED_KEEP_S)).strftime("%Y-%m-%d")
    old = [path for path, _ in files.walk(SUPERSEDED_FOLDER) if _date(path) < limit]
    for path in old:
        files.remove(path)
    return len(old)


def _date(path: str) -> str:
    part = part_at(path.removeprefix(f"{SUPERSEDED_FOLDER}/"))
    return part.date if part else "9999"


def _found(there: set[str], path: str) -> str:
    for place in (path, f"{SUPERSEDED_FOLDER}/{path}"):
        if place in there:
            return place
    return ""


def _entry(files: LakeFiles, path: str, size: int) -> FileEntry:
    footer = footer_of(files.read(path))
    return FileEntry(path, footer.rows, size, footer.last_offset)


def _path(number: int) -> str:
    return f"{MANIFEST_FOLDER}/{number:010}.json"

