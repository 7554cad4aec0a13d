"""Part of a lake, or one state of it, as a lake of its own: byte for byte, and verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reco.errors.v1 import error_reason_pb2

from ingest.lake.files import LakeFiles, ThereAlreadyError
from ingest.lake.listing import parts_of
from ingest.lake.manifest import Manifest
from ingest.lake.names import KINDS, Range, superseded
from ingest.lake.verify import Report, verify
from runtime.errors import StateError


def chosen(files: LakeFiles, kinds: Sequence[str], dates: Range, manifest: Manifest | None) -> list[str]:
    """Paths of the files to restore: those of a manifest, or else what is there now."""
    if manifest is not None:
        paths = [path for kind in kinds for path in manifest.paths(kind)]
    else:
        paths = [part.path for kind in kinds for part in parts_of(files, kind)]
    return list(filter(dates.holds, paths))


def restore(
    files: LakeFiles, target: LakeFiles, paths: Sequence[str], done: Callable[[], None] = lambda: None
) -> Report:
    """Copies the files and verifies the whole `target`. Run again after a kill, it goes on; `done` is called for each file.

    Raises StateError: the target holds another file of such a name, or a file is gone; DependencyError, OverloadError.
    """
    for path in paths:
        _copy(files, target, path)
        done()
    return verify(target, KINDS)


def _copy(files: LakeFiles, target: LakeFiles, path: str) -> None:
    data = _read(files, path)
    try:
        target.create(path, data)
    except ThereAlreadyError:
        if target.read(path) != data:
            message = f"the target has another {path} already; choose an empty folder"
            raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None


def _read(files: LakeFiles, path: str) -> bytes:
    for place in (path, superseded(path)):  # compaction may come by
        try:
            return files.read(place)
        except FileNotFoundError:
            continue
    message = f"{path} is gone for good: it expired, or no manifest names it any more"
    raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
