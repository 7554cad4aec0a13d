"""The catalogue as a file beside the models: what serving starts with when Postgres is away.

A JSON array an item and line, as `ROW` puts it together, under gzip, whose checksum tells a file that was cut or altered.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from reco.errors.v1 import error_reason_pb2

from runtime.errors import RecoError, StateError
from runtime.postgres import Pool, postgres_errors
from serving import limits

FILE = ".catalogue.gz"
ROW = """key, id, title, categories, tags, numeric_attributes, string_attributes,
  extract(epoch from create_time)::float8, extract(epoch from expire_time)::float8, available, deleted"""
# A thousand items a row: the event loop has little to do with each.
_LINES = f"""select string_agg(json_build_array({ROW})::text, e'\\n' order by key) from items
  group by key / {limits.CATALOG_FILE_ITEM_COUNT}"""  # noqa: S608 - constants
_DAMAGED = (OSError, EOFError, zlib.error, ValueError, TypeError)

Row = tuple[Any, ...]


class CatalogueFileError(StateError):
    """The file can't be used; what to do is in the message."""


class CatalogueFile:
    """Written whole or not at all. Processes that share the folder write the same; the last one wins."""

    def __init__(self, models_dir: Path) -> None:
        self.path = models_dir / FILE

    async def write(self, pool: Pool) -> None:
        """Writes all items. Raises RecoError, OSError, TimeoutError; then the file before stays."""
        half = self.path.with_name(f"{FILE}.{os.getpid()}")
        self.path.parent.mkdir(parents=True, exist_ok=True)  # before the first model there is no folder yet
        self._remove_left_behind()
        try:
            with await asyncio.to_thread(gzip.open, half, "wb", limits.CATALOG_FILE_GZIP_LEVEL) as file:
                async with asyncio.timeout(limits.CATALOG_FILE_WRITE_S_MAX):
                    async for lines in _lines(pool):
                        await asyncio.to_thread(file.write, lines)
                        _check_size(half)
            _check_size(half)
            await asyncio.to_thread(_sync, half)
            half.replace(self.path)
        finally:
            half.unlink(missing_ok=True)

    async def read(self) -> AsyncIterator[list[Row]]:
        """All rows, CATALOG_BATCH_ROW_COUNT at a time; none without a file. CatalogueFileError, at once, when it is damaged."""
        if not self.path.exists():
            return
        try:
            await asyncio.to_thread(self._verify)
            with gzip.open(self.path, "rb") as file:
                while rows := await asyncio.to_thread(_rows, file):
                    yield rows
        except _DAMAGED as error:
            raise _damaged(self.path, error) from None

    def _verify(self) -> None:
        if not self.path.stat().st_size:
            raise EOFError("it is empty")  # which gzip lets pass
        with gzip.open(self.path, "rb") as file:
            while file.read(limits.CATALOG_FILE_READ_BYTES):
                pass

    def _remove_left_behind(self) -> None:
        for left in self.path.parent.glob(f"{FILE}.*"):
            if time.time() - left.stat().st_mtime > limits.CATALOG_FILE_WRITE_S_MAX:
                left.unlink(missing_ok=True)


async def _lines(pool: Pool) -> AsyncIterator[bytes]:
    with postgres_errors():
        async with pool.connection() as connection, connection.transaction():
            timeout_ms = int(limits.CATALOG_FILE_WRITE_S_MAX * 1000)
            await connection.execute(f"set local statement_timeout = {timeout_ms}")
            async with connection.cursor(name="catalogue_file") as cursor:
                await cursor.execute(_LINES)
                while row := await cursor.fetchone():
                    yield f"{row[0]}\n".encode()


def _rows(file: gzip.GzipFile) -> list[Row]:
    lines = itertools.islice(file, limits.CATALOG_BATCH_ROW_COUNT)
    return [tuple(orjson.loads(line)) for line in lines]


def _check_size(half: Path) -> None:
    if half.stat().st_size > limits.CATALOG_FILE_BYTES_MAX:
        raise _error(
            f"the catalogue takes more than {limits.CATALOG_FILE_BYTES_MAX} bytes; it is not kept beside the models"
        )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _damaged(path: Path, error: BaseException) -> RecoError:
    return _error(f"{path} can't be read ({error}); remove it, it is written again while PostgreSQL answers")


def _error(message: str) -> CatalogueFileError:
    return CatalogueFileError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
