"""A lake in a folder."""

from __future__ import annotations

import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from ingest.lake.names import HALF_SUFFIX
from ingest.lake.store import Files, Found, lake_errors
from runtime.errors import store_unavailable
from runtime.files import sync_folder


class LocalLake:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._token = uuid.uuid4().hex

    def create(self, path: str, data: bytes) -> None:
        """Written beside its place, synced, linked under its name, and the name synced."""
        target = self.root / path
        # Readers of a lake pass over names with a dot. Each process has its own: one that was paused may write on into it.
        half = target.with_name(f".{target.name}.{self._token}{HALF_SUFFIX}")
        with lake_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.write_synced(half, data)
                os.link(half, target)  # unlike a rename it fails where there is a file
            except FileNotFoundError as error:  # a successor has cleared it away
                raise store_unavailable("lake", error) from error
            finally:
                half.unlink(missing_ok=True)
            for folder in (target.parent, *target.parent.relative_to(self.root).parents):
                sync_folder(self.root / folder)

    def write_synced(self, path: Path, data: bytes) -> None:
        """Writes a file and waits until the disk has it."""
        with path.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())

    def read(self, path: str) -> bytes:
        with lake_errors(path):
            return (self.root / path).read_bytes()

    def read_end(self, path: str, bytes_max: int) -> bytes:
        with lake_errors(path), (self.root / path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - bytes_max))
            return file.read()

    def list(self, folder: str) -> list[str]:
        with lake_errors(folder), suppress(FileNotFoundError):
            return sorted(path.name for path in (self.root / folder).iterdir())
        return []

    def walk(self, folder: str) -> Files:
        found = []
        with lake_errors(folder):
            for path in (self.root / folder).rglob("*"):
                with suppress(FileNotFoundError):  # compaction goes on meanwhile
                    told = path.stat()
                    if stat.S_ISREG(told.st_mode):
                        name = path.relative_to(self.root).as_posix()
                        found.append(Found(name, told.st_size, told.st_mtime))
        return sorted(found)

    def move(self, path: str, to: str) -> None:
        """Neither folder is synced: after a power cut it may be to do again."""
        with lake_errors(path), suppress(FileNotFoundError):
            target = self.root / to
            target.parent.mkdir(parents=True, exist_ok=True)
            os.utime(self.root / path)  # an object store gives what is moved a new time, too
            (self.root / path).replace(target)

    def remove(self, *paths: str) -> None:
        for path in paths:
            with lake_errors(path):
                (self.root / path).unlink(missing_ok=True)

    def url(self, path: str) -> str:
        return str(self.root / path)
