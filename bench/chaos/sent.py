"""What is sent: event number n says everything about itself, so that it can be checked wherever it has arrived."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1 import event_pb2
from reco.ingest.v1.event_pb2 import Event
from reco.ingest.v1.item_pb2 import Item

USER_COUNT: Final = 3_000
ITEM_COUNT: Final = 500
PREFIX: Final = "chaos-"
_TYPES: Final = (
    event_pb2.EVENT_TYPE_VIEW, event_pb2.EVENT_TYPE_CLICK, event_pb2.EVENT_TYPE_PURCHASE, event_pb2.EVENT_TYPE_RATING,
)  # fmt: skip
_MIX: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1


def items() -> list[Item]:
    """All that events are of."""
    return [Item(id=f"item-{i}", title=f"Item {i}") for i in range(ITEM_COUNT)]


def event(number: int, begin_s: int) -> Event:
    """Event `number` of a run that began at `begin_s` (unix seconds). One in eight has no time of its own."""
    made = Event(
        id=f"{PREFIX}{number}", user_id=user_of(number), item_id=item_of(number), type=_TYPES[number % 4]
    )
    if made.type == event_pb2.EVENT_TYPE_RATING:
        made.value = number // 4 % 5 + 1
    if number % 8:
        made.event_time.CopyFrom(Timestamp(seconds=begin_s - number % 86_400, nanos=number % 1_000 * 1_000))
    return made


def user_of(number: int) -> str:
    """Whose event it is."""
    return f"user-{_mixed(number) % USER_COUNT}"


def item_of(number: int) -> str:
    """Of which item."""
    return f"item-{_mixed(number) // USER_COUNT % ITEM_COUNT}"


def number_of(event_id: str) -> int:
    """The number of an event's id; -1 for one that is not of a run."""
    number = event_id.removeprefix(PREFIX)
    return int(number) if number != event_id and number.isdecimal() else -1


def _mixed(number: int) -> int:
    return (number + 1) * _MIX & _WORD
