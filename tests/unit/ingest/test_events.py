"""An accepted event's parts, and what can't be read."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from reco.ingest.v1.attribute_pb2 import AttributeValue
from reco.ingest.v1.event_pb2 import AcceptedEvent, Event, EventContext, EventType
from reco.ingest.v1.item_pb2 import Item

from ingest.events import context_json, decode, micros_of
from ingest.stream import Entry
from ingest.texts import has_nul, texts_of
from profiles.signals import Signal, signal_of


def sample() -> AcceptedEvent:
    time = Timestamp(seconds=1_790_000_000)
    sent = Event(id="e", user_id="u", item_id="i", type=EventType.EVENT_TYPE_VIEW, event_time=time)
    return AcceptedEvent(event=sent, item_key=3, accept_time=time)


def reason_of(accepted: AcceptedEvent) -> str:
    events, poison = decode([Entry(1, accepted.SerializeToString())], "lake")
    return poison[0].reason if poison else str(len(events))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_poison(data: bytes) -> None:
    events, poison = decode([Entry(1, data)], "lake")

    assert len(events) + len(poison) == 1


def test_a_whole_event_is_read() -> None:
    assert reason_of(sample()) == "1"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("item_key", 0, "item key"), ("item_key", 1 << 28, "item key"), ("event.id", "", "event id"),
        ("event.user_id", "", "user and session"), ("event.event_time.seconds", -1, "time"),
        ("event.event_time.seconds", 1 << 32, "time"), ("accept_time.seconds", 0, "time"),
    ],
)  # fmt: skip
def test_an_event_without_what_sinks_need_is_poison(field: str, value: object, reason: str) -> None:
    accepted = sample()
    holder: object = accepted
    *parents, name = field.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    setattr(holder, name, value)

    assert reason in reason_of(accepted)


def test_an_entry_for_another_sink_is_passed_over() -> None:
    entry = Entry(1, sample().SerializeToString(), sink="postgres")

    assert decode([entry], "lake") == ([], [])
    assert len(decode([entry], "postgres")[0]) == 1


@pytest.mark.parametrize(
    ("event_type", "value", "signal"),
    [
        (EventType.EVENT_TYPE_VIEW, 0.0, Signal.VIEW), (EventType.EVENT_TYPE_CLICK, 0.0, Signal.CLICK),
        (EventType.EVENT_TYPE_ADD_TO_CART, 0.0, Signal.ADD_TO_CART),
        (EventType.EVENT_TYPE_PURCHASE, 9.0, Signal.PURCHASE), (EventType.EVENT_TYPE_LIKE, 0.0, Signal.LIKE),
        (EventType.EVENT_TYPE_DISLIKE, 0.0, Signal.DISLIKE), (EventType.EVENT_TYPE_CUSTOM, 0.0, Signal.OTHER),
        (EventType.EVENT_TYPE_RATING, 2.5, Signal.RATING_LOW), (EventType.EVENT_TYPE_RATING, 3.0, Signal.RATING_MID),
        (EventType.EVENT_TYPE_RATING, 4.0, Signal.RATING_HIGH),
    ],
)  # fmt: skip
def test_signal_of_each_type(event_type: EventType.ValueType, value: float, signal: Signal) -> None:
    assert signal_of(event_type, value) == signal


def test_micros_are_exact() -> None:
    assert micros_of(Timestamp(seconds=1_790_000_000, nanos=123_456_999)) == 1_790_000_000_123_456


def test_context_keeps_what_is_given_with_its_types() -> None:
    attributes = {
        "b": AttributeValue(bool_value=False), "n": AttributeValue(number_value=0.5), "s": AttributeValue(string_value=""),
    }  # fmt: skip

    assert context_json(Event()) is None
    assert context_json(Event(context=EventContext())) == "{}"
    assert (
        context_json(Event(context=EventContext(country="AT", attributes=attributes)))
        == '{"attributes":{"b":false,"n":0.5,"s":""},"country":"AT"}'
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "\0"}, {"user_id": "a\0"}, {"session_id": "\0a"}, {"item_id": "\0"}, {"surface": "\0"},
        {"attribution_token": "\0"}, {"context": EventContext(referrer="\0")},
        {"context": EventContext(attributes={"\0": AttributeValue(bool_value=True)})},
        {"context": EventContext(attributes={"a": AttributeValue(string_value="\0")})},
    ],
)  # fmt: skip
def test_a_nul_is_found_wherever_it_hides(fields: dict[str, object]) -> None:
    assert has_nul(Event(**fields))  # type: ignore[arg-type]  # fields by name
    assert not has_nul(sample().event)


def test_texts_of_an_item_are_all_its_texts() -> None:
    item = Item(
        id="a", categories=["b"], numeric_attributes={"c": 1}, string_attributes={"d": "e"}, media_url="f"
    )

    assert sorted(texts_of(item)) == list("abcdef")
