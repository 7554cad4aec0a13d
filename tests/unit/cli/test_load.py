"""Mappings, event ids and items of `reco load`; what `reco events tail --json` prints."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1 import event_pb2

from cli.events import as_dict
from cli.load import CATEGORY_COUNT_MAX, TITLE_CHARACTER_COUNT_MAX, to_event, to_item
from cli.tables import pairs
from profiles.signals import Signal
from training.columns import MappedEvent, MappedItem
from training.dataset import DatasetError

CLICK = MappedEvent("ann", "film", 1_700_000_000, int(Signal.CLICK), math.nan)


def test_pairs_when_a_column_holds_an_equals_sign_keeps_it() -> None:
    assert pairs(["user=a=b", "item=i"]) == {"user": "a=b", "item": "i"}
    assert pairs(None) == {}


@pytest.mark.parametrize("entry", ["user", "user=", "=column", "="])
def test_pairs_when_an_entry_is_no_pair_quotes_it(entry: str) -> None:
    with pytest.raises(DatasetError, match="is not FIELD=COLUMN"):
        pairs([entry])


def test_event_id_when_the_same_rows_come_again_is_the_same() -> None:
    first, second = Counter[str](), Counter[str]()
    assert [to_event(CLICK, first).id for _ in range(3)] == [to_event(CLICK, second).id for _ in range(3)]


def test_event_id_when_rows_are_equal_is_numbered() -> None:
    seen = Counter[str]()
    ids = [to_event(CLICK, seen).id for _ in range(3)]
    assert ids == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"]


def test_event_id_when_made_is_the_one_that_earlier_loads_made() -> None:
    assert (
        to_event(CLICK, Counter()).id == "9db465d70c9ce51460482df473345008"
    )  # another one would count every loaded event twice


def test_event_when_the_type_is_unknown_is_a_custom_one() -> None:
    event = to_event(MappedEvent("ann", "film", 1, int(Signal.OTHER), 2.5), Counter())
    assert (event.type, event.custom_type, event.value) == (event_pb2.EVENT_TYPE_CUSTOM, "imported", 2.5)


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
