"""Any table in, good rows out; bad rows are counted with their numbers, never a traceback."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiles.signals import Signal
from training.columns import (
    EventColumns,
    ItemColumns,
    RowError,
    parse_time_s,
    read_events,
    read_items,
    to_dataset,
)
from training.dataset import DatasetError
from training.tables import open_table

COLUMNS = EventColumns("u", "i", "t", value="v", type="k")


def _file(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_read_events_when_rows_are_bad_counts_and_numbers_them(tmp_path):
    text = "u,i,t,v,k\na,x,10,5,\n,x,10,1,\nb,,11,1,\nc,x,soon,1,\nd,x,-4,1,\ne,x,12,much,\nf,x\ng,y,13,,like\nh,x,nan,1,\n"
    events, bad = read_events(_file(tmp_path, "e.csv", text), COLUMNS)
    assert [(event.user, event.time_s, event.code) for event in events] == [
        ("a", 10, Signal.RATING_HIGH),
        ("g", 13, Signal.LIKE),
    ]
    assert bad.count == 7
    assert [number for number, _ in bad.sample] == [2, 3, 4, 5, 6, 7, 9]
    assert bad.reasons["the user is missing"] == 1
    assert bad.reasons["the time is outside of 1970 to 2106"] == 2


def test_read_events_when_columns_are_typed_and_tab_separated_reads_them(tmp_path):
    text = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t"7\t2\t881250949\n'
    columns = EventColumns("user_id:token", "item_id:token", "timestamp:float", "rating:float")
    events, bad = read_events(_file(tmp_path, "m.inter", text), columns)
    assert (events[0].item, events[0].code, events[0].time_s) == ('"7', Signal.RATING_LOW, 881250949)
    assert bad.count == 0


def test_read_events_when_json_lines_are_broken_sets_them_aside(tmp_path):
    good = json.dumps({"u": "a", "i": 4, "t": 1.5e9})
    text = f'{good}\n{{"u": \n[1]\n\n{good}\n{{"u": "a"}}\n'
    events, bad = read_events(_file(tmp_path, "e.jsonl", text), EventColumns("u", "i", "t"))
    assert [event.item for event in events] == ["4", "4"]
    assert [number for number, _ in bad.sample] == [2, 3, 6]


def test_read_events_when_parquet_has_timestamps_reads_them(tmp_path):
    when = datetime(2024, 1, 2, tzinfo=UTC)
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"u": ["a", None], "i": [1, 2], "t": [when, when], "more": [0, 0]}), path)
    events, bad = read_events(path, EventColumns("u", "i", "t"))
    assert events[0].time_s == int(when.timestamp())
    assert bad.sample == [(2, "the user is missing")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.csv", "user,item\na,b\n", "has no column time; it has user, item"),
        ("e.csv", "", "has no column user, item, time; it has none"),
        ("e.jsonl", '{"a": 1}\n', "has no column"),
        ("e.xls", "", "what can be read"),
        ("e.parquet", "not parquet", "not a readable Parquet file"),
    ],
)
def test_read_events_when_file_cannot_be_mapped_says_why(tmp_path, name, text, message):
    with pytest.raises(DatasetError, match=message):
        read_events(_file(tmp_path, name, text), EventColumns())


def test_read_events_when_file_is_missing_says_so(tmp_path):
    with pytest.raises(DatasetError, match="No such file"):
        read_events(tmp_path / "none.csv", EventColumns())


def test_read_events_when_bytes_are_not_text_keeps_going(tmp_path):
    text = b"user,item,time\na\xff,b\0,5\n" + b"x" * 200_000 + b",b,6\nc,d,7\n"
    events, bad = read_events(_file(tmp_path, "e.csv", text), EventColumns())
    assert events[-1].user == "c"
    assert len(events) + bad.count == 3


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.jsonl", "e.parquet"])
def test_open_table_from_any_place_gives_the_rest(tmp_path, name):
    rows = [
        {"u": f"ü{n}", "i": "two\nlines, quoted" if name == "e.csv" else "x", "t": n} for n in range(1, 60)
    ]
    path = tmp_path / name
    if name == "e.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif name == "e.jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, "uit", delimiter="," if name == "e.csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    whole = list(open_table(path, ["u", "i", "t"]))
    assert len(whole) == 59
    for number, found in enumerate(whole, 1):
        assert list(open_table(path, ["u", "i", "t"], found.end)) == whole[number:]


def test_open_table_when_a_row_cannot_be_parsed_gives_what_it_says(tmp_path):
    found = list(open_table(_file(tmp_path, "e.csv", "u,i\na,b,c\nd,e\n"), ["u", "i"]))
    assert [row.row for row in found] == [{"line": "a,b,c\n"}, {"u": "d", "i": "e"}]
    assert next(open_table(_file(tmp_path, "e.jsonl", "{torn\n"), ["u"])).row == {"line": "{torn"}


def test_event_columns_when_field_is_unknown_names_the_known():
    with pytest.raises(DatasetError, match="no field when: map some of user, item, time"):
        EventColumns.of({"user": "u", "when": "t"})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1704067200", 1704067200), (1704067200123, 1704067200), ("2024-01-01T00:00:00Z", 1704067200),
     ("2024-01-01", 1704067200), ("2024-01-01T01:00:00+01:00", 1704067200), (0, 0)],
)  # fmt: skip
def test_parse_time_when_form_is_known_gives_unix_seconds(value, seconds):
    assert parse_time_s(value) == seconds


@pytest.mark.parametrize("value", [None, "", "yesterday", "inf", "-1", "5000000000", "1e30"])
def test_parse_time_when_unreadable_is_a_row_fault(value):
    with pytest.raises(RowError, match="time"):
        parse_time_s(value)


def test_to_dataset_when_items_are_described_keeps_categories_and_years(tmp_path):
    events, _ = read_events(_file(tmp_path, "e.csv", "user,item,time\na,2,9\na,1,5\nb,2,7\n"), EventColumns())
    text = "item,kinds,year,name\n1,Drama War,1995,A\n2,War,unknown,B\n3,Drama,1990,never seen\n"
    columns = ItemColumns("item", categories="kinds", released="year", title="name")
    items, bad = read_items(_file(tmp_path, "i.csv", text), columns)
    dataset = to_dataset(events, items)
    assert bad.count == 0
    assert dataset.items.ids == ("1", "2")
    assert dataset.times.tolist() == [5, 7, 9]
    assert dataset.items.released.tolist() == [1995, 0]
    assert dataset.items.categories.tolist() == [3, 1]


def test_to_dataset_when_nothing_is_good_says_what_to_do():
    with pytest.raises(DatasetError, match="no events"):
        to_dataset([])
