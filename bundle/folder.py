"""A bundle on disk: written whole or not at all, verified and mapped when it is opened."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reco.errors.v1 import error_reason_pb2

from bundle.manifest import (
    MANIFEST_BYTES_MAX,
    MANIFEST_FILE,
    VERSION_PATTERN,
    BundleError,
    FileEntry,
    Manifest,
    read_manifest,
)
from runtime.errors import DependencyError
from runtime.files import sync_folder
from runtime.version import __version__

READ_BYTES = 1024 * 1024  # of a file at a time while its checksum is taken
TEMPORARY_AGE_S_MAX = 86_400  # no write takes a day: an older folder was left behind by a crash
TEMPORARY_PREFIX = ".writing-"  # what a crash leaves behind carries it, and is never opened


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Its arrays are mapped from the files: processes of one machine share the pages."""

    manifest: Manifest
    arrays: Mapping[str, np.ndarray]
    files: Mapping[str, Path]
    path: Path


def write(
    models_dir: Path,
    version: str,
    arrays: Mapping[str, np.ndarray],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    files: Mapping[str, Path],
    create_time_s: float,
) -> Path:
    """Writes the bundle `models_dir/version`, whole or not at all, and returns its path.

    `files` are copied by name. FileExistsError if the version is there already: bundles are immutable. DependencyError
    STORAGE_FULL if the disk is full; nothing is left behind then.
    """
    if not VERSION_PATTERN.fullmatch(version):
        raise ValueError(f"{version!r} is no model version: letters, digits, '.', '_', '-', at most 64")
    target = models_dir / version
    with _temporary_folder(models_dir) as folder:
        array_entries = {name: _write_array(folder, name, array) for name, array in arrays.items()}
        file_entries = {name: _copy_file(folder, name, source) for name, source in files.items()}
        engine = {"reco": __version__, "numpy": np.__version__}
        manifest = Manifest(
            version, create_time_s, engine, dict(params), dict(metrics), array_entries, file_entries
        )
        _write_synced(folder / MANIFEST_FILE, manifest.to_json())
        sync_folder(folder)
        if target.exists():
            raise FileExistsError(f"model {version} is already there; bundles are never overwritten")
        folder.rename(target)
    sync_folder(models_dir)
    return target


def open_bundle(path: Path, verify: bool = True) -> Bundle:
    """Opens the bundle at `path`: BundleError names the file and what differs. `verify` compares checksums too.

    Arrays are mapped copy-on-write rather than read-only: numba compiles a kernel once more for read-only arrays, and
    nobody writes to them. A stray write would stay in this process and never reach the file.
    """
    version, manifest = path.name, manifest_of(path)
    for entry in (*manifest.arrays.values(), *manifest.files.values()):
        _check_file(version, path / entry.file, entry, verify)
    arrays = {name: _map(version, path / entry.file, entry) for name, entry in manifest.arrays.items()}
    return Bundle(manifest, arrays, {name: path / e.file for name, e in manifest.files.items()}, path)


def remove(models_dir: Path, kept: Collection[str], known: Collection[str]) -> list[str]:
    """Removes the bundles of versions that are `known` and not `kept`; returns which. Processes that have one mapped keep it."""
    gone = [version for version in known if version not in kept and (models_dir / version).is_dir()]
    for version in gone:
        shutil.rmtree(models_dir / version, ignore_errors=True)
    return gone


def manifest_of(path: Path) -> Manifest:
    """What the bundle at `path` says of itself; BundleError if that can't be read."""
    return read_manifest(path.name, _read_manifest_file(path))


@contextmanager
def _temporary_folder(models_dir: Path) -> Iterator[Path]:
    # Beside the target: a rename is only atomic within one file system.
    _remove_left_behind(models_dir)
    folder = models_dir / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _storage_full(models_dir) from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind(models_dir: Path) -> None:
    for folder in models_dir.glob(f"{TEMPORARY_PREFIX}*"):
        if time.time() - folder.stat().st_mtime > TEMPORARY_AGE_S_MAX:
            shutil.rmtree(folder, ignore_errors=True)


def _storage_full(models_dir: Path) -> DependencyError:
    message = f"the disk under {models_dir} is full; no model was published, free space and train again"
    return DependencyError(error_reason_pb2.ERROR_REASON_STORAGE_FULL, message, {"store": "models"})


def _write_array(folder: Path, name: str, array: np.ndarray) -> FileEntry:
    path = folder / f"{name}.npy"
    with path.open("xb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        _sync_file(file.fileno())
    return FileEntry(path.name, path.stat().st_size, sha256_of(path), array.shape, array.dtype.str)


def _copy_file(folder: Path, name: str, source: Path) -> FileEntry:
    path = folder / f"{name}.bin"
    with source.open("rb") as reader, path.open("xb") as file:
        shutil.copyfileobj(reader, file, READ_BYTES)
        file.flush()
        _sync_file(file.fileno())
    return FileEntry(path.name, path.stat().st_size, sha256_of(path))


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        _sync_file(file.fileno())


def _sync_file(descriptor: int) -> None:
    os.fsync(descriptor)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest_file(path: Path) -> bytes:
    try:
        with (path / MANIFEST_FILE).open("rb") as file:
            return file.read(MANIFEST_BYTES_MAX)
    except OSError as error:
        raise BundleError(path.name, f"{MANIFEST_FILE}: {error.strerror}") from None


def _check_file(version: str, path: Path, entry: FileEntry, verify: bool) -> None:
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            raise BundleError(version, f"{entry.file}: {size} bytes, the manifest says {entry.bytes}")
        if verify and sha256_of(path) != entry.sha256:
            raise BundleError(version, f"{entry.file}: checksum differs")
    except OSError as error:
        raise BundleError(version, f"{entry.file}: {error.strerror}") from None


def _map(version: str, path: Path, entry: FileEntry) -> np.ndarray:
    try:
        # asarray: a plain ndarray over the mapping; numba and numpy are slower with the subclass memmap.
        array = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (ValueError, OSError) as error:
        raise BundleError(version, f"{entry.file}: {error}") from None
    if array.shape != entry.shape or array.dtype.str != entry.dtype:
        found = f"{array.dtype.str}{array.shape}"
        raise BundleError(version, f"{entry.file}: {found}, the manifest says {entry.dtype}{entry.shape}")
    return array
