"""The lake's files, where the settings say that they are: a folder of this machine, or an object store."""

from __future__ import annotations

from pathlib import Path

from obstore.exceptions import BaseError
from reco.errors.v1 import error_reason_pb2

from ingest.lake.local import LocalLake as LocalLake
from ingest.lake.objects import ObjectLake as ObjectLake
from ingest.lake.store import Files as Files
from ingest.lake.store import Found as Found
from ingest.lake.store import LakeFiles as LakeFiles
from ingest.lake.store import ThereAlreadyError as ThereAlreadyError
from ingest.lake.store import lake_errors as lake_errors
from runtime.errors import StateError


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
