"""The lake's files: put whole or not at all, listed by folder. A folder of this machine, or any other of pyarrow's."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pyarrow import fs
from reco.errors.v1 import error_reason_pb2

from runtime.errors import OverloadError, store_unavailable
from runtime.files import sync_folder

DATE_FOLDER = "kind=events"
DISK_RETRY_DELAY_MS = 5000
_NAME = re.compile(r"part-(\d+)-(\d+)-(\d+)\.parquet")
_HALF = re.compile(r"\.part-(\d+)-\d+-\d+\.parquet\.half")


class LakeFiles(Protocol):
    """Paths are relative to the lake, with "/"."""

    def put(self, path: str, data: bytes) -> None:
        """Makes the file, for good and whole. Raises OverloadError when the disk is full, DependencyError."""
        ...

    def list(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none when there is no such folder. Raises DependencyError."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file, if it is there. Raises DependencyError."""
        ...


class LocalLake:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: str, data: bytes) -> None:
        """Written beside its place, synced, renamed, and the rename synced."""
        target = self._root / path
        half = target.with_name(f".{target.name}.half")  # readers of a lake pass over names with a dot
        with lake_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.write_synced(half, data)
                half.rename(target)
            except OSError:
                half.unlink(missing_ok=True)
                raise
            for folder in (target.parent, *target.parent.relative_to(self._root).parents):
                sync_folder(self._root / folder)

    def write_synced(self, path: Path, data: bytes) -> None:
        """Writes a file and waits until the disk has it."""
        with path.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())

    def list(self, folder: str) -> list[str]:
        with lake_errors():
            try:
                return sorted(path.name for path in (self._root / folder).iterdir())
            except FileNotFoundError:
                return []

    def remove(self, path: str) -> None:
        with lake_errors():
            (self._root / path).unlink(missing_ok=True)


class ObjectLake:
    """An object store: an object is there once it is whole."""

    def __init__(self, filesystem: fs.FileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def put(self, path: str, data: bytes) -> None:
        with lake_errors(), self._filesystem.open_output_stream(f"{self._root}/{path}") as out:
            out.write(data)

    def list(self, folder: str) -> list[str]:
        with lake_errors():
            selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
            return sorted(info.base_name for info in self._filesystem.get_file_info(selector))

    def remove(self, path: str) -> None:
        with lake_errors(), contextlib.suppress(FileNotFoundError):
            self._filesystem.delete_file(f"{self._root}/{path}")


def open_lake(url: str, data_dir: Path) -> LakeFiles:
    """The lake of the settings: `url`, or `data_dir`/lake."""
    if "://" not in url:
        return LocalLake(Path(url) if url else data_dir / "lake")
    with lake_errors():
        filesystem, root = fs.FileSystem.from_uri(url)
    return ObjectLake(filesystem, root)


def file_name(partition: int, first: int, last: int) -> str:
    """The name of a file with the entries `first` to `last` (packed offsets) of a partition."""
    return f"part-{partition}-{first}-{last}.parquet"


def last_offset(files: LakeFiles, partition: int) -> int:
    """The last entry of a partition that the lake has, as a packed offset; 0 for none. Newest folders first.

    Half files that a kill has left behind lie at the end of what was written: they are removed on the way.
    """
    for folder in _newest_hours(files):
        names = files.list(folder)
        for name in names:
            if (half := _HALF.fullmatch(name)) and int(half[1]) == partition:
                files.remove(f"{folder}/{name}")
        parts = [part for part in map(_NAME.fullmatch, names) if part and int(part[1]) == partition]
        if parts:
            return max(int(part[3]) for part in parts)
    return 0


def _newest_hours(files: LakeFiles) -> Iterator[str]:
    """The folders of hours, newest first; what others have put beside them is passed over."""
    for date in reversed([name for name in files.list(DATE_FOLDER) if name.startswith("date=")]):
        folder = f"{DATE_FOLDER}/{date}"
        for hour in reversed([name for name in files.list(folder) if name.startswith("hour=")]):
            yield f"{folder}/{hour}"


@contextmanager
def lake_errors() -> Iterator[None]:
    """Around file work: what goes wrong with the store leaves as a RecoError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            metadata = {"store": "lake", "retry_delay_ms": str(DISK_RETRY_DELAY_MS)}
            message = "the lake's disk is full; free space: nothing is lost, the events wait in the stream"
            raise OverloadError(error_reason_pb2.ERROR_REASON_STORAGE_FULL, message, metadata) from error
        raise store_unavailable("lake", error) from error
