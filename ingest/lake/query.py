"""SQL over the lake, in process: DuckDB over its Parquet, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from ingest.lake.files import LakeFiles, ObjectLake, lake_errors
from ingest.lake.listing import parts_of
from ingest.lake.table import SCHEMA

MEMORY_LIMIT = "2GB"  # of one query; beyond it goes to disk


@contextmanager
def connect(files: LakeFiles, paths: Sequence[str] | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which the view `events` holds the files of `paths` (None: all there are), columns united by name."""
    chosen = [part.path for part in parts_of(files)] if paths is None else list(paths)
    with lake_errors("the lake"), duckdb.connect(":memory:") as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_view(_names(connection, files, chosen)))
        yield connection


def _names(connection: duckdb.DuckDBPyConnection, files: LakeFiles, paths: Sequence[str]) -> list[str]:
    if not isinstance(files, ObjectLake):
        return [files.url(path) for path in paths]
    from ingest.lake.filesystem import PROTOCOL, ObjectFileSystem  # fsspec takes a while to import

    connection.register_filesystem(ObjectFileSystem(store=files.store))
    return [f"{PROTOCOL}://{path}" for path in paths]


def _view(names: list[str]) -> str:
    if not names:
        columns = ", ".join(f"NULL::{_TYPES.get(str(f.type), 'VARCHAR')} AS {f.name}" for f in SCHEMA)
        return f"CREATE VIEW events AS SELECT {columns} WHERE false"  # noqa: S608 -- names of ours
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"CREATE VIEW events AS SELECT * FROM read_parquet([{quoted}], union_by_name = true, hive_partitioning = true)"  # noqa: S608


_TYPES = {
    "int8": "TINYINT", "int32": "INTEGER", "int64": "BIGINT", "double": "DOUBLE",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}  # fmt: skip
