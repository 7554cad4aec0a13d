"""A lake in an object store."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import obstore
from obstore.store import from_url

from ingest.lake.store import Files, Found, lake_errors

OBJECT_TRIES_MAX = 3  # of one request; the sink tries again for ever
OBJECT_WAIT_S_MAX = 30  # for one request: a compacted hour of 100 MB goes through at 4 MB/s


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

    def remove(self, *paths: str) -> None:
        if paths:
            with lake_errors(paths[0]), suppress(FileNotFoundError):
                obstore.delete(self.store, list(paths))  # a thousand a request

    def url(self, path: str) -> str:
        return f"{self._url}/{path}"


def _found(told: Any) -> Found:
    return Found(str(told["path"]), int(told["size"]), told["last_modified"].timestamp())
