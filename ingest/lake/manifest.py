"""Manifests: which files made up the lake at a moment, so that a long read sees one state while files change.

_manifests/<number>.json, made once and never changed. A file that compaction has replaced since is found under _superseded/
as long as a manifest that is kept names it (ingest/lake/expire.py).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import cast

import orjson
from reco.errors.v1 import error_reason_pb2

from ingest.lake.files import LakeFiles, ThereAlreadyError
from ingest.lake.listing import parts_of
from ingest.lake.names import KINDS, MANIFEST_FOLDER, kind_folder, part_at, superseded
from ingest.lake.table import read_footer
from runtime.errors import NotFoundError, StateError, store_unavailable

READERS = 8  # at once: an object store takes some 20 ms for a file's end, whoever else asks
MANIFESTS_KEPT = 24  # one an hour: the longest read of one state is a day


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
        """In all files, of all kinds."""
        return sum(entry.rows for entry in self.files)

    def paths(self, kind: str) -> list[str]:
        """The files of a kind, as they were then."""
        return [entry.path for entry in self.files if (part := part_at(entry.path)) and part.kind == kind]


def write_manifest(files: LakeFiles, now_s: float) -> Manifest:
    """Writes down what is there now; returns the newest manifest when nothing has changed since."""
    before = newest(files)
    known = {entry.path: entry for entry in before.files} if before else {}
    there = [(part.path, size) for kind in KINDS for part, size in parts_of(files, kind).items()]
    try:
        with ThreadPoolExecutor(READERS) as pool:
            entries = tuple(pool.map(lambda each: known.get(each[0]) or _entry(files, *each), there))
    except FileNotFoundError as error:  # compacted since it was listed
        raise store_unavailable("lake", error) from error
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
        entries = tuple(map(_read_entry, read["files"]))
        return Manifest(int(read["number"]), str(read["time"]), entries)
    except FileNotFoundError:
        message = f"there is no manifest {number}; see `reco lake list --manifests`"
        raise NotFoundError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message) from None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        message = f"the manifest {_path(number)} is damaged: {error}"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None


def _read_entry(entry: dict[str, object]) -> FileEntry:
    """Raises TypeError, KeyError for what is none."""
    path, figures = entry["path"], [entry[name] for name in ("rows", "bytes", "last_offset")]
    if type(path) is not str or not all(type(figure) is int for figure in figures):
        raise TypeError(f"{entry} is no file")
    return FileEntry(path, *(cast(int, figure) for figure in figures))


def paths_of(files: LakeFiles, manifest: Manifest, kind: str) -> list[str]:
    """Where the manifest's files of a kind are now. Raises StateError when one is gone for good."""
    there = {
        found.path
        for folder in (kind_folder(kind), superseded(kind_folder(kind)))
        for found in files.walk(folder)
    }
    wanted = manifest.paths(kind)
    found = [_found(there, path) for path in wanted]
    gone = [path for path, place in zip(wanted, found, strict=True) if not place]
    if gone:
        message = (
            f"manifest {manifest.number} is too old: {len(gone)} of its files are gone, {gone[0]} among them"
        )
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
    return [place for place in found if place]


def _found(there: set[str], path: str) -> str:
    for place in (path, superseded(path)):
        if place in there:
            return place
    return ""


def _entry(files: LakeFiles, path: str, size: int) -> FileEntry:
    footer = read_footer(files, path)
    return FileEntry(path, footer.rows, size, footer.last_offset)


def _path(number: int) -> str:
    return f"{MANIFEST_FOLDER}/{number:010}.json"
