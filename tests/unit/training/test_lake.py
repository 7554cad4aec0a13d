"""The lake's Parquet files as a data set: each event once, in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.dataset import DatasetError, Items
from training.lake import read_lake

START = datetime(2024, 1, 1, tzinfo=UTC)


def _write(path, rows):
    names = ["event_id", "subject", "item_key", "signal", "event_time"]
    columns = list(zip(*rows, strict=True))
    times = [START + timedelta(seconds=s) for s in columns[4]]
    arrays = [
        columns[0],
        columns[1],
        pa.array(columns[2], pa.int32()),
        pa.array(columns[3], pa.uint8()),
        times,
    ]
    pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), path)
    return str(path)


def test_read_lake_when_an_event_was_delivered_twice_counts_it_once(tmp_path):
    first = _write(tmp_path / "a.parquet", [("e2", "u:b", 9, 2, 20), ("e1", "u:a", 5, 7, 10)])
    second = _write(tmp_path / "b.parquet", [("e1", "u:a", 5, 7, 10), ("e3", "u:a", 9, 1, 30)])
    dataset = read_lake([second, first])
    assert dataset.items.keys.tolist() == [5, 9]
    assert dataset.users.tolist() == [0, 1, 0]
    assert dataset.rows.tolist() == [0, 1, 1]
    assert dataset.codes.tolist() == [7, 2, 1]
    assert np.diff(dataset.times).tolist() == [10, 10]


def test_read_lake_when_entries_share_all_that_the_ring_keeps_counts_one(tmp_path):
    rows = [
        ("e1", "u:a", 5, 2, 10),
        ("e2", "u:a", 5, 2, 10),
        ("e3", "u:a", 5, 7, 10),
        ("e4", "u:b", 5, 2, 10),
    ]
    dataset = read_lake([_write(tmp_path / "a.parquet", [*rows, ("e5", "u:a", 5, 2, 11)])])
    assert sorted(zip(dataset.users.tolist(), dataset.codes.tolist(), strict=True)) == [
        (0, 2),
        (0, 2),
        (0, 7),
        (1, 2),
    ]


def test_read_lake_when_signal_is_missing_leaves_the_event_out(tmp_path):
    path = _write(tmp_path / "a.parquet", [("e1", "u:a", 5, None, 10), ("e2", "u:a", 6, 2, 10)])
    assert read_lake([path]).items.keys.tolist() == [6]


def test_read_lake_when_the_folder_is_empty_says_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match="holds no events yet: load some"):
        read_lake([str(tmp_path / "**" / "*.parquet")])


def test_read_lake_when_files_are_listed_in_another_order_is_the_same(tmp_path):
    files = [_write(tmp_path / f"{n}.parquet", [(f"e{n}", f"u{n % 2}", n, 1, 5)]) for n in range(4)]
    left, right = read_lake(files), read_lake(files[::-1])
    assert left.rows.tolist() == right.rows.tolist()
    assert left.users.tolist() == right.users.tolist()


def test_read_lake_when_items_are_described_keeps_their_attributes(tmp_path):
    path = _write(tmp_path / "a.parquet", [("e1", "u", 5, 1, 1), ("e2", "u", 8, 1, 2)])
    described = Items(
        np.array([3, 5], dtype=np.int32), np.array([1, 2], np.uint64), np.array([1990, 1991], np.float32)
    )
    items = read_lake([path], described).items
    assert items.keys.tolist() == [3, 5, 8]
    assert items.categories.tolist() == [1, 2, 0]
    assert items.released.tolist() == [1990, 1991, 0]


def test_read_lake_when_there_are_no_files_says_what_to_do():
    with pytest.raises(DatasetError, match="load some"):
        read_lake([])


@pytest.mark.parametrize("content", [b"", b"PAR1 torn"])
def test_read_lake_when_a_file_is_torn_says_so(tmp_path, content):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_lake([str(path)])


def test_read_lake_when_columns_are_missing_names_them(tmp_path):
    pq.write_table(pa.table({"event_id": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="lack the columns event_time, item_key, signal, subject"):
        read_lake([str(tmp_path / "a.parquet")])
