"""Reads the lake: Parquet files of events, each event once, in the order of time."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
from numpy.typing import NDArray

from profiles.limits import ITEM_KEY_MAX, KEY_MIX
from profiles.signals import Signal
from training.dataset import Dataset, DatasetError, Items, build

# A redelivered event may stand in two files and counts once. Events of one second stand in the order of
# the profile's ring (profiles/codec.py: signal, then mixed key), so that training sees what serving will; `event_id` breaks what
# is still a tie, so that the same files give the same data set in whatever order they are listed.
_QUERY = """
SELECT dense_rank() OVER (ORDER BY subject) - 1 AS user_number, item_key, code, time_s
FROM (
  SELECT event_id, any_value(subject) AS subject, any_value(item_key) AS item_key,
         any_value(signal) AS code, min({time}) AS time_s
  FROM read_parquet($files, union_by_name = true)
  WHERE subject IS NOT NULL AND item_key IS NOT NULL AND event_time IS NOT NULL
  GROUP BY event_id
)
WHERE time_s BETWEEN 0 AND 4294967295
ORDER BY time_s, code, (item_key::BIGINT * {mix}) & {mask}, event_id
"""


def read_lake(files: Sequence[str], items: Items | None = None) -> Dataset:
    """The events of Parquet files (paths or globs) with the columns event_id, subject, item_key, signal and event_time.

    `signal` is a signal code, `event_time` a timestamp or unix seconds. `items` describes them; keys that it does not
    hold, and all if it is None, are known by their events alone. DatasetError: no files, no events, or other columns.
    """
    if not files:
        raise DatasetError(
            "the lake holds no files yet: load events, and wait until the lake's sink has caught up"
        )
    try:
        columns = _fetch(files)
    except duckdb.Error as error:
        raise DatasetError(f"the lake cannot be read: {str(error).splitlines()[0]}") from error
    keys = columns["item_key"].astype(np.int32)
    known = _items(keys, items)
    users = columns["user_number"].astype(np.int32)
    rows = np.searchsorted(known.keys, keys).astype(np.int32)
    codes = np.clip(columns["code"], 0, max(Signal)).astype(np.uint8)
    return build(
        users, rows, codes, columns["time_s"].astype(np.int64), int(users.max(initial=-1)) + 1, known
    )


def _fetch(files: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    with duckdb.connect(":memory:") as connection:
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
    missing = sorted({"event_id", "subject", "item_key", "signal", "event_time"} - set(types))
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
