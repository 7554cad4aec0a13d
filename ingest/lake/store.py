"""What the lake asks of a store of files: each made whole or not at all, and once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from reco.errors.v1 import error_reason_pb2

from runtime.errors import OverloadError, StateError, store_unavailable

DISK_RETRY_DELAY_MS = 5000


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

    def remove(self, *paths: str) -> None:
        """Removes files, those that are there."""
        ...

    def url(self, path: str) -> str:
        """What engines call the file: a path, or s3://..."""
        ...


Files = list[Found]  # within the classes `list` is a method


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
