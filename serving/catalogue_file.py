"""The catalogue as a snapshot beside the models: a file an array, mapped at a start, and a manifest that is replaced last.

`.catalogue/manifest.json` names the folder beside it that holds the arrays. Mapped copy-on-write: processes of one machine share
the pages, and what one of them changes stays its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reco.errors.v1 import error_reason_pb2

from runtime.errors import RecoError, StateError
from runtime.files import sync_folder
from runtime.version import __version__
from serving import limits
from serving.catalogue import Catalogue
from serving.columns import State

FOLDER, MANIFEST, LOCK = ".catalogue", "manifest.json", "lock"
SCHEMA_VERSION = 1  # changes with the arrays, their names, their meaning, and the hash of texts
_DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError)


class CatalogueFileError(StateError):
    """The snapshot can't be used or written; what to do is in the message."""


@dataclass(frozen=True)
class Origin:
    """What a view is exact for: a state of a database."""

    database: str  # which one: cluster, timeline and database
    pg_snapshot: str  # the transactions that are in the view; there may be more


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was read and verified."""

    origin: Origin
    marker: str  # a row with this id is in the database, if it holds all that the snapshot holds
    taken_s: float
    parts: Mapping[str, State]

    def catalogue(self, now_s: float) -> Catalogue:
        """The view. Once only: the arrays become its own."""
        return Catalogue.of_parts(self.parts, now_s)


class Half:
    """A snapshot that is being written: arrays first, while nothing changes them; then whatever takes longer."""

    def __init__(self, folder: Path, before: str | None) -> None:
        self._folder = folder
        self._before = before  # the folder of the snapshot that this one replaces
        self._parts: list[dict[str, Any]] = []

    def write(self, parts: Mapping[str, State]) -> None:
        """Writes the arrays to the page cache. Raises CatalogueFileError if they are too large, OSError."""
        size_bytes = sum(array.nbytes for _, arrays in parts.values() for array in arrays.values())
        if size_bytes > limits.CATALOG_FILE_BYTES_MAX:
            raise _error(
                f"the catalogue takes more than {limits.CATALOG_FILE_BYTES_MAX} bytes; no snapshot is kept"
            )
        self._folder.mkdir()
        for number, (name, (params, arrays)) in enumerate(parts.items()):
            files = {each: f"{number:04}_{each}.npy" for each in arrays}
            for each, file in files.items():
                np.save(self._folder / file, arrays[each], allow_pickle=False)
            self._parts.append({"name": name, "params": params, "files": files})

    def publish(self, origin: Origin, marker: str, taken_s: float) -> None:
        """Flushes everything and makes it the snapshot, in place of the one before. Raises OSError."""
        names = sorted(file for part in self._parts for file in part["files"].values())
        body = {
            "schema_version": SCHEMA_VERSION, "version": __version__, "folder": self._folder.name, "taken_s": taken_s,
            "origin": asdict(origin), "marker": marker, "parts": self._parts,
            "sha256": {name: _flushed(self._folder / name) for name in names},
        }  # fmt: skip
        sync_folder(self._folder)
        half = self._folder / MANIFEST
        half.write_text(json.dumps({**body, "digest": _digest(body)}))
        _flushed(half)
        half.replace(self._folder.parent / MANIFEST)
        sync_folder(self._folder.parent)
        _remove(self._folder.parent, self._before, self._folder)


class CatalogueFile:
    """The snapshot in a folder of models. Processes that share it take turns at writing; a killed one leaves the last snapshot."""

    def __init__(self, models_dir: Path) -> None:
        self.path = models_dir / FOLDER

    def is_recent(self, database: str, now_s: float) -> bool:
        """Whether a snapshot of this database was taken less than CATALOG_FILE_PERIOD_S ago, by whomever."""
        try:
            body = self._manifest()
        except _DAMAGED:
            return False
        if body is None or body["origin"]["database"] != database:
            return False
        return bool(abs(now_s - body["taken_s"]) < limits.CATALOG_FILE_PERIOD_S)

    @contextmanager
    def writing(self) -> Iterator[Half | None]:
        """A half to write, gone at the end unless it was published; None while another process writes. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)  # before the first model there is no folder yet
        with (self.path / LOCK).open("wb") as lock:
            try:
                fcntl.flock(
                    lock, fcntl.LOCK_EX | fcntl.LOCK_NB
                )  # it ends with the process, however that ends
            except BlockingIOError:
                yield None
                return
            folder = self.path / uuid.uuid4().hex
            try:
                yield Half(folder, self._current())
            finally:
                if self._current() != folder.name:
                    shutil.rmtree(folder, ignore_errors=True)

    def read(self) -> Snapshot | None:
        """The snapshot, None if there is none. Blocks: a second for some GB. CatalogueFileError when it is damaged or another schema's."""
        try:
            for last in range(limits.CATALOG_FILE_TRY_COUNT, 0, -1):
                body = self._manifest()
                if body is None:
                    return None
                try:
                    return self._snapshot(body)
                except FileNotFoundError:  # another process has replaced it meanwhile
                    if last == 1:
                        raise
        except _DAMAGED as error:
            raise _damaged(self.path, error) from None
        return None

    def _snapshot(self, body: dict[str, Any]) -> Snapshot:
        folder = self.path / Path(body["folder"]).name
        for name, sha256 in body["sha256"].items():
            if _sha256(folder / Path(name).name) != sha256:
                raise ValueError(f"{name}: checksum differs")
        parts = {
            part["name"]: (
                part["params"],
                {name: _map(folder / file) for name, file in part["files"].items()},
            )
            for part in body["parts"]
        }
        return Snapshot(Origin(**body["origin"]), body["marker"], body["taken_s"], parts)

    def _manifest(self) -> dict[str, Any] | None:
        try:
            body: dict[str, Any] = json.loads((self.path / MANIFEST).read_bytes())
        except FileNotFoundError:
            return None
        if body.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"it has schema {body.get('schema_version')!r}, this version reads {SCHEMA_VERSION}"
            )
        if body.pop("digest", None) != _digest(body):
            raise ValueError(f"{MANIFEST}: checksum differs")
        return body

    def _current(self) -> str | None:
        try:
            body = self._manifest()
        except _DAMAGED:
            return None
        return body["folder"] if body else None


def _map(path: Path) -> np.ndarray:
    # asarray: a plain ndarray over the mapping; numba and numpy are slower with the subclass memmap.
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flushed(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _remove(parent: Path, name: str | None, keep: Path) -> None:
    """The snapshot before, and what killed processes left. Those who have mapped one keep its pages."""
    for folder in parent.iterdir():
        # A young half may be another machine's, where the folder is shared and locks are not.
        old = time.time() - folder.stat().st_mtime > limits.CATALOG_FILE_WRITE_S_MAX
        if folder.is_dir() and folder != keep and (old or folder.name == name):
            shutil.rmtree(folder, ignore_errors=True)


def _damaged(path: Path, error: BaseException) -> RecoError:
    return _error(
        f"the snapshot {path} can't be used ({error}); it is written again while PostgreSQL answers, or remove it"
    )


def _error(message: str) -> CatalogueFileError:
    return CatalogueFileError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
