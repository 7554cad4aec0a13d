"""Reads the lake: Parquet files of events, each event once, in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import duckdb
import numpy as np
from numpy.typing import NDArray

from profiles.limits import ITEM_KEY_MAX, KEY_MIX
from profiles.signals import SIGNAL_COUNT_MAX
from training.dataset import Dataset, DatasetError, Items, build

# Entries that share user, second, signal and item count once, and those of one second stand by signal, then mixed key: the
# very rule of the profile's ring (profiles/codec.py), so that training sees what serving will. A redelivered event that
# stands in two files is such an entry too, and the same files give the same data set in whatever order they are listed.
_QUERY = """
SELECT dense_rank() OVER (ORDER BY subject) - 1 AS user_number, item_key, code, time_s
FROM (
  SELECT DISTINCT subject, item_key, signal AS code, {time} AS time_s
  FROM read_parquet($files, union_by_name = true)
  WHERE subject IS NOT NULL AND item_key IS NOT NULL AND signal IS NOT NULL AND event_time IS NOT NULL
)
WHERE time_s BETWEEN 0 AND 4294967295
ORDER BY time_s, code, (item_key::BIGINT * {mix}) & {mask}, subject
"""
_NO_FILES = "the lake holds no events yet: load some (see `reco load --help`), then train again"


def read_lake(
    files: Sequence[str], items: Items | None = None, connection: duckdb.DuckDBPyConnection | None = None
) -> Dataset:
    """The events of Parquet files (paths or globs) with the columns subject, item_key, signal and event_time.

    `signal` is a signal code, `event_time` a timestamp or unix seconds. `items` describes them; keys that it does not
    hold, and all if it is None, are known by their events alone. `connection`: one that knows the files' names, if they
    are not of this machine's. DatasetError: no files, no events, or other columns.
    """
    if not files:
        raise DatasetError(_NO_FILES)
    try:
        columns = _fetch(files, connection)
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        if "No files found" in first:
            raise DatasetError(_NO_FILES) from None
        raise DatasetError(f"the lake cannot be read, a damaged file has to be moved away: {first}") from None
    keys = columns["item_key"].astype(np.int32)
    known = _items(keys, items)
    users = columns["user_number"].astype(np.int32)
    rows = np.searchsorted(known.keys, keys).astype(np.int32)
    codes = np.clip(columns["code"], 0, SIGNAL_COUNT_MAX - 1).astype(np.uint8)
    return build(
        users, rows, codes, columns["time_s"].astype(np.int64), int(users.max(initial=-1)) + 1, known
    )


def _fetch(files: Sequence[str], given: duckdb.DuckDBPyConnection | None) -> dict[str, NDArray[np.int64]]:
    with nullcontext(given) if given else duckdb.connect(":memory:") as connection:
        types = _types(connection, files)
        time = "event_time" if types["event_time"] in _INTEGERS else "epoch(event_time)"
        query = _QUERY.format(mix=KEY_MIX, mask=ITEM_KEY_MAX, time=f"CAST(floor({time}) AS BIGINT)")
        found = connection.execute(query, {"files": list(files)}).fetchnumpy()
        return {name: np.asarray(values) for name, values in found.items()}


_INTEGERS = {"INTEGER", "UINTEGER", "BIGINT", "UBIGINT", "DOUBLE", "FLOAT", "HUGEINT"}


def _types(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> dict[str, str]:
    query = "DESCRIBE SELECT * FROM read_parquet($files, union_by_name = true)"
    found = connection.execute(query, {"files": list(files)}).fetchall()
    types = {str(row[0]): str(row[1]) for row in found}
    missing = sorted({"subject", "item_key", "signal", "event_time"} - set(types))
    if missing:
        raise DatasetError(
            f"the lake's files lack the columns {', '.join(missing)}: another version wrote them"
        )
    return types


def _items(keys: NDArray[np.int32], items: Items | None) -> Items:
    seen = np.unique(keys)
    if items is None:
        return Items.bare(seen)
    both = np.union1d(seen, items.keys).astype(np.int32)
    at = np.searchsorted(both, items.keys)
    categories = np.zeros(len(both), dtype=np.uint64)
    released = np.zeros(len(both), dtype=np.float32)
    categories[at], released[at] = items.categories, items.released
    return Items(both, categories, released)
