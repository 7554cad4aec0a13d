"""An object store's files for DuckDB, by ranges. Its own s3:// needs an extension that it would fetch when it is first used."""

from __future__ import annotations

from typing import Any

import obstore
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

PROTOCOL = "reco-lake"
READ_AHEAD_BYTES = 1024**2  # a column of a row group takes some 100 kB


class ObjectFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Reading alone, of paths that are known."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, store: Any) -> None:
        super().__init__()
        self.store = store

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size and time of a file."""
        found = obstore.head(self.store, self._strip_protocol(path))
        return {"name": path, "size": found["size"], "type": "file", "modified": found["last_modified"]}

    def modified(self, path: str) -> Any:
        """When it was made."""
        return self.info(path)["modified"]

    def glob(self, path: str, **_: Any) -> list[str]:
        """Paths are given whole."""
        return [path]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> ObjectFile:
        return ObjectFile(self, path, mode, block_size=READ_AHEAD_BYTES, cache_type="readahead")


class ObjectFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec ships no types
    """One file."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        path = self.fs._strip_protocol(self.path)
        return bytes(obstore.get_range(self.fs.store, path, start=start, end=end))
