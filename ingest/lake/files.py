"""The lake's files: made whole or not at all, each once. A folder of this machine, or an object store."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import from_url
from reco.errors.v1 import error_reason_pb2

from ingest.lake.names import HALF_SUFFIX
from runtime.errors import OverloadError, StateError, store_unavailable
from runtime.files import sync_folder

DISK_RETRY_DELAY_MS = 5000
OBJECT_TRIES_MAX = 3  # of one request; the sink tries again for ever
OBJECT_WAIT_S_MAX = 30  # for one request: a compacted hour of 100 MB goes through at 4 MB/s


class ThereAlreadyError(StateError):
    """A file of that name is there: another process has written it."""


class Found(NamedTuple):
    """A file, its size, and when it was made or moved (unix seconds, by the store's clock)."""

    path: str
    bytes: int
    time_s: float


class LakeFiles(Protocol):
    """Paths are relative to the lake, with "/". All raise DependencyError when the store does not answer."""

    def create(self, path: str, data: bytes) -> None:
        """Makes the file, for good and whole, if there is none. Raises ThereAlreadyError; OverloadError: the disk is full."""
        ...

    def read(self, path: str) -> bytes:
        """The file. Raises FileNotFoundError."""
        ...

    def read_end(self, path: str, bytes_max: int) -> bytes:
        """The last so many bytes of a file, all of a smaller one. Raises FileNotFoundError."""
        ...

    def list(self, folder: str) -> list[str]:
        """Names in a folder, folders among them, sorted; none when there is no such folder."""
        ...

    def walk(self, folder: str) -> Files:
        """All files below a folder, sorted by path."""
        ...

    def move(self, path: str, to: str) -> None:
        """Moves a file, over whatever is there. One that is not there stays away."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        ...

    def url(self, path: str) -> str:
        """What engines call the file: a path, or s3://..."""
        ...


Files = list[Found]  # within the classes `list` is a method


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

    def remove(self, path: str) -> None:
        with lake_errors(path):
            (self.root / path).unlink(missing_ok=True)

    def url(self, path: str) -> str:
        return str(self.root / path)


class ObjectLake:
    """An object store, S3 or one that speaks its protocol: an object is there once it is whole."""

    def __init__(self, url: str) -> None:
        """Credentials and endpoint come from the environment, by AWS's usual names."""
        self._url = url.rstrip("/")
        retries: Any = {"max_retries": OBJECT_TRIES_MAX}
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        options: Any = {"timeout": f"{OBJECT_WAIT_S_MAX}s", "allow_http": plain}
        self.store: Any = from_url(self._url, retry_config=retries, client_options=options)

    def create(self, path: str, data: bytes) -> None:
        with lake_errors(path):
            obstore.put(self.store, path, data, mode="create", use_multipart=False)

    def read(self, path: str) -> bytes:
        with lake_errors(path):
            return bytes(obstore.get(self.store, path).bytes())

    def read_end(self, path: str, bytes_max: int) -> bytes:
        with lake_errors(path):
            return bytes(obstore.get(self.store, path, options={"range": {"suffix": bytes_max}}).bytes())

    def list(self, folder: str) -> list[str]:
        with lake_errors(folder):
            found = obstore.list_with_delimiter(self.store, folder)
        folders = [str(prefix).rstrip("/") for prefix in found["common_prefixes"]]
        files = [str(each["path"]) for each in found["objects"]]
        return sorted(path.rpartition("/")[2] for path in (*folders, *files))

    def walk(self, folder: str) -> Files:
        with lake_errors(folder):
            batches = obstore.list(self.store, folder)
            return sorted(_found(each) for batch in batches for each in batch)

    def move(self, path: str, to: str) -> None:
        with lake_errors(path), suppress(FileNotFoundError):
            obstore.copy(self.store, path, to)
            obstore.delete(self.store, path)

    def remove(self, path: str) -> None:
        with lake_errors(path), suppress(FileNotFoundError):
            obstore.delete(self.store, path)

    def url(self, path: str) -> str:
        return f"{self._url}/{path}"


def _found(told: Any) -> Found:
    return Found(str(told["path"]), int(told["size"]), told["last_modified"].timestamp())


def open_lake(url: str, data_dir: Path) -> LakeFiles:
    """The lake of the settings: `url`, or `data_dir`/lake. Raises StateError for a URL that can't be used."""
    if not url:
        return LocalLake(data_dir / "lake")
    if "://" not in url or url.startswith("file:///"):
        return LocalLake(Path(url.removeprefix("file://")))
    try:
        return ObjectLake(url)
    except (BaseError, ValueError) as error:
        first = str(error).splitlines()[0]
        message = f"RECO_LAKE_URL {url} can't be used: {first}"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None


@contextmanager
def lake_errors(path: str) -> Iterator[None]:
    """Around file work: what goes wrong with the store leaves as a RecoError; FileNotFoundError passes through."""
    try:
        yield
    except (FileExistsError, AlreadyExistsError) as error:
        message = f"the lake has {path} already: another process writes this partition"
        raise ThereAlreadyError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from error
    except NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "the lake has no such file", path) from error
    except FileNotFoundError:
        raise
    except (OSError, BaseError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            metadata = {"store": "lake", "retry_delay_ms": str(DISK_RETRY_DELAY_MS)}
            message = "the lake's disk is full; free space: nothing is lost, the events wait in the stream"
            raise OverloadError(error_reason_pb2.ERROR_REASON_STORAGE_FULL, message, metadata) from error
        raise store_unavailable("lake", error) from error
