"""Mapping files of `reco load`: what they can say, and how they say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from reco.ingest.v1 import event_pb2

from cli.loading.events import EventMaker
from cli.loading.mapping import EventMapping, from_file, from_options
from training.columns import ItemColumns, RowError
from training.dataset import DatasetError

FULL = """
[events]
id = "nr"
user = "kunde"
item = "sku"
time = "am"
time_format = "%d.%m.%Y %H:%M"
time_zone = "Europe/Vienna"
type = "was"
value = "betrag"
device = "geraet"

[events.types]
gekauft = "purchase"
gemerkt = "custom:wish"

[events.defaults]
type = "view"
surface = "shop"

[items]
item = "sku"
title = "name"
"""
ROW = {"nr": "1", "kunde": "ann", "sku": "s", "am": "02.01.2024 01:30", "was": "gekauft", "betrag": "9.5"}


def read(tmp_path: Path, text: str) -> tuple[EventMapping, ItemColumns]:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    return from_file(path, {}, {})


def test_mapping_when_it_says_everything_makes_the_event(tmp_path: Path) -> None:
    events, items = read(tmp_path, FULL)
    event = EventMaker(events).make(1, {**ROW, "geraet": "tv"})
    assert (event.id, event.type, event.value) == ("1", event_pb2.EVENT_TYPE_PURCHASE, 9.5)
    assert (event.surface, event.context.device) == ("shop", "tv")
    assert event.event_time.ToJsonString() == "2024-01-02T00:30:00Z"
    assert (items.item, items.title, items.separator) == ("sku", "name", " ")


def test_mapping_when_a_word_is_one_of_ours_or_missing_uses_the_types_and_the_defaults(
    tmp_path: Path,
) -> None:
    maker = EventMaker(read(tmp_path, FULL)[0])
    wish = maker.make(1, {**ROW, "was": "gemerkt"})
    assert (wish.type, wish.custom_type) == (event_pb2.EVENT_TYPE_CUSTOM, "wish")
    assert maker.make(1, {**ROW, "was": ""}).type == event_pb2.EVENT_TYPE_VIEW
    with pytest.raises(RowError, match="not one of"):
        maker.make(1, {**ROW, "was": "gewinkt"})
    with pytest.raises(RowError, match="not written as"):
        maker.make(1, {**ROW, "am": "gestern"})


def test_mapping_when_options_are_given_too_they_win(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(FULL)
    events, items = from_file(path, {"user": "client"}, {"title": "label"})
    assert (events.columns["user"], events.columns["item"], items.title) == ("client", "sku", "label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[events", "Expected"),
        ("[event]\nuser = 'u'", "the file: there is no field event: map some of events, items"),
        ("[events]\nwho = 'u'", r"\[events\]: there is no field who: map some of id, user"),
        ("[events]\nuser = 7", r"\[events\] user is 7, not a text"),
        ("events = 'u'", "events is 'u', not a table"),
        ("[events.types]\nbought = 'buy'", "there is no event type 'buy': give view, click"),
        ("[events.types]\nbought = 'custom:Not This'", "no event type 'custom:Not This'"),
        ("[events.types]\nbought = ['buy']", "no event type"),
        ("[events.defaults]\nuser = 'ann'", r"\[events.defaults\]: there is no field user"),
        ("[events.defaults]\nvalue = 'much'", "the value is not a number"),
        ("[events]\ntime_format = 'fortnights'", "time_format is 'fortnights': give auto, seconds"),
        ("[events]\ntime_zone = 'Mars/Olympus'", "time_zone is 'Mars/Olympus'"),
        ("[events]\ntime_zone = ''", "time_zone is ''"),
        ("[items]\nname = 'n'", r"\[items\]: there is no field name: map some of item"),
    ],
)
def test_mapping_when_it_is_wrong_says_where_and_what_can_be_given(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(str(tmp_path / "mapping.toml"))


def test_mapping_of_options_when_a_field_is_unknown_names_the_known() -> None:
    with pytest.raises(DatasetError, match="--map: there is no field when: map some of id, user"):
        from_options({"when": "t"}, {})
    with pytest.raises(DatasetError, match="--map-item: there is no field name"):
        from_options({}, {"name": "t"})
