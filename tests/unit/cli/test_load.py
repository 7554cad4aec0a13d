"""Mappings, event ids and items of `reco load`; what `reco events tail --json` prints."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1 import event_pb2

from cli.events import as_dict
from cli.loading.events import EventMaker
from cli.loading.items import CATEGORY_COUNT_MAX, TITLE_CHARACTER_COUNT_MAX, to_item
from cli.loading.mapping import EventMapping
from cli.tables import pairs
from training.columns import MappedItem, RowError
from training.dataset import DatasetError

ROW: dict[str, object] = {"user": "ann", "item": "film", "time": 1_700_000_000}


def test_pairs_when_a_column_holds_an_equals_sign_keeps_it() -> None:
    assert pairs(["user=a=b", "item=i"]) == {"user": "a=b", "item": "i"}
    assert pairs(None) == {}


@pytest.mark.parametrize("entry", ["user", "user=", "=column", "="])
def test_pairs_when_an_entry_is_no_pair_quotes_it(entry: str) -> None:
    with pytest.raises(DatasetError, match="is not FIELD=COLUMN"):
        pairs([entry])


def make(row: dict[str, object], number: int = 1, **mapping: object) -> event_pb2.Event:
    return EventMaker(EventMapping(**mapping)).make(number, row)  # type: ignore[arg-type]  # by name


def test_event_id_when_the_same_row_comes_again_is_the_same() -> None:
    assert make(ROW).id == make(ROW).id


def test_event_id_when_rows_are_equal_differs() -> None:
    assert len({make(ROW, number).id for number in (1, 2, 3)}) == 3


def test_event_id_when_the_file_has_one_is_that() -> None:
    columns = {"id": "n", "user": "user", "item": "item", "time": "time"}
    assert make({**ROW, "n": 77}, columns=columns).id == "77"
    with pytest.raises(RowError, match="id is longer than 64"):
        make({**ROW, "n": "7" * 65}, columns=columns)


def test_event_when_the_type_is_unknown_is_a_custom_one() -> None:
    columns = {"user": "user", "item": "item", "time": "time", "value": "v", "type": "t"}
    event = make({**ROW, "v": 2.5, "t": "wink"}, columns=columns)
    assert (event.type, event.custom_type, event.value) == (event_pb2.EVENT_TYPE_CUSTOM, "imported", 2.5)


def test_event_when_a_time_has_a_fraction_keeps_it_to_the_microsecond() -> None:
    event = make({**ROW, "time": "2024-01-01T00:00:00.123456+00:00"})
    assert event.event_time.ToMicroseconds() == 1_704_067_200_123_456


def test_event_when_there_is_neither_user_nor_session_is_a_bad_row() -> None:
    columns = {"session": "s", "item": "item", "time": "time"}
    assert make({**ROW, "s": "tab"}, columns=columns).session_id == "tab"
    with pytest.raises(RowError, match="user is missing"):
        make(ROW, columns=columns)


def test_item_when_longer_than_the_contract_is_cut() -> None:
    item = to_item(MappedItem("film", tuple(f"c{n}" for n in range(99)), 1990.0, "t" * 9999))
    assert (len(item.title), len(item.categories)) == (TITLE_CHARACTER_COUNT_MAX, CATEGORY_COUNT_MAX)
    assert item.create_time.ToJsonString() == "1990-01-01T00:00:00Z"


def test_item_when_a_text_cannot_be_stored_has_a_mark_instead() -> None:
    item = to_item(MappedItem("film", ("a\0b",), 0.0, "half \ud83d"))
    assert (item.title, list(item.categories)) == ("half \ufffd", ["a\ufffdb"])
    assert not item.HasField("create_time")


def test_tailed_event_when_it_has_no_value_says_null() -> None:
    event = event_pb2.Event(id="e", user_id="ann", item_id="film", type=event_pb2.EVENT_TYPE_ADD_TO_CART)
    accepted = event_pb2.AcceptedEvent(event=event, item_key=7, accept_time=Timestamp(seconds=1))
    shown = as_dict(accepted)
    assert (shown["type"], shown["value"], shown["item_key"]) == ("add_to_cart", None, 7)
    assert shown["accept_time"] == "1970-01-01T00:00:01Z"
    event.value = 0.0
    assert as_dict(event_pb2.AcceptedEvent(event=event))["value"] == 0.0
