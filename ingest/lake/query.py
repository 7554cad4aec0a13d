"""SQL over the lake, in process: DuckDB over its Parquet, wherever it lies."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import duckdb
import structlog

from ingest.lake.files import LakeFiles, ObjectLake
from ingest.lake.listing import readable
from ingest.lake.manifest import Manifest, paths_of
from ingest.lake.names import ALL_DAYS, EVENTS, KINDS, Range
from ingest.lake.table import SCHEMAS

MEMORY_LIMIT = "2GB"  # of one query; beyond it goes to disk
# Compaction moves a file once, so a read that met it finds the file in its new place; a new hour's comes in between at most.
READ_TRIES_MAX = 4
T = TypeVar("T")
Paths = Mapping[str, Sequence[str]]


def read(
    files: LakeFiles,
    work: Callable[[duckdb.DuckDBPyConnection, Mapping[str, list[str]]], T],
    kinds: Sequence[str] = (EVENTS,),
    manifest: Manifest | None = None,
    dates: Range = ALL_DAYS,
) -> T:
    """What `work` makes of a connection and of its names for the files of each kind in `dates`, those of a manifest if given.

    Where compaction moved a file under its eyes, it is called again with the files' new places. What it raises otherwise
    passes through. Raises DependencyError; StateError: the manifest is too old.
    """
    for tried in range(READ_TRIES_MAX):
        paths = {kind: _paths(files, kind, manifest, dates) for kind in kinds}
        try:
            with _connection() as connection:
                return work(connection, names_of(connection, files, paths))
        except Exception:
            there = {kind: set(_paths(files, kind, manifest, dates)) for kind in kinds}
            if tried == READ_TRIES_MAX - 1 or all(set(paths[kind]) <= there[kind] for kind in kinds):
                raise
            structlog.get_logger().info("compaction moved a file; the lake is read again")
    raise AssertionError("the last try returns or raises")


@contextmanager
def connect(files: LakeFiles, paths: Paths) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with a view of each kind in `paths` over its files, their columns united by name."""
    with _connection() as connection:
        make_views(connection, names_of(connection, files, paths))
        yield connection


def make_views(connection: duckdb.DuckDBPyConnection, names: Mapping[str, Sequence[str]]) -> None:
    """A view of each kind, `events`, `items`, `users`, over the files of those names; empty where there are none."""
    for kind, of_kind in names.items():
        connection.execute(_view(kind, of_kind))


def names_of(connection: duckdb.DuckDBPyConnection, files: LakeFiles, paths: Paths) -> dict[str, list[str]]:
    """What the connection calls the files."""
    if not isinstance(files, ObjectLake):
        return {kind: [files.url(path) for path in of_kind] for kind, of_kind in paths.items()}
    from ingest.lake.filesystem import PROTOCOL, ObjectFileSystem  # fsspec takes a while to import

    connection.register_filesystem(ObjectFileSystem(store=files.store))
    return {kind: [f"{PROTOCOL}://{path}" for path in of_kind] for kind, of_kind in paths.items()}


@contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(
            "SET temp_directory = $1", [tempfile.gettempdir()]
        )  # it takes the working folder else
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def _paths(files: LakeFiles, kind: str, manifest: Manifest | None, dates: Range) -> list[str]:
    found = readable(files, kind) if manifest is None else paths_of(files, manifest, kind)
    return list(filter(dates.holds, found))


def _view(kind: str, names: Sequence[str]) -> str:
    if kind not in KINDS:
        raise ValueError(f"{kind} is no kind of the lake")
    if not names:
        columns = ", ".join(f"NULL::{_TYPES.get(str(f.type), 'VARCHAR')} AS {f.name}" for f in SCHEMAS[kind])
        return f"CREATE VIEW {kind} AS SELECT {columns} WHERE false"
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"CREATE VIEW {kind} AS SELECT * FROM read_parquet([{quoted}], union_by_name = true, hive_partitioning = true)"  # noqa: S608


_TYPES = {
    "int8": "TINYINT", "int32": "INTEGER", "int64": "BIGINT", "double": "DOUBLE",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}  # fmt: skip
