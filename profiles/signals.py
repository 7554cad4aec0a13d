"""The kinds of events as the ring keeps them: four bits each. Numbers are stored; never renumber."""

from __future__ import annotations

from enum import IntEnum

from reco.ingest.v1.event_pb2 import EventType

RATING_LOW_MAX = 2.5  # of 5: ratings up to here speak against the item
RATING_MID_MAX = 3.5  # of 5: up to here they say little


class Signal(IntEnum):
    """What an event says about the user's taste."""

    VIEW = 1
    CLICK = 2
    ADD_TO_CART = 3
    PURCHASE = 4
    RATING_LOW = 5
    RATING_MID = 6
    RATING_HIGH = 7
    LIKE = 8
    DISLIKE = 9
    OTHER = 10


SIGNAL_COUNT_MAX = 16  # four bits


def from_rating(value: float) -> Signal:
    """The signal of a rating from 1 (worst) to 5 (best)."""
    if value <= RATING_LOW_MAX:
        return Signal.RATING_LOW
    return Signal.RATING_MID if value <= RATING_MID_MAX else Signal.RATING_HIGH


_SIGNALS = {
    EventType.EVENT_TYPE_VIEW: Signal.VIEW,
    EventType.EVENT_TYPE_CLICK: Signal.CLICK,
    EventType.EVENT_TYPE_ADD_TO_CART: Signal.ADD_TO_CART,
    EventType.EVENT_TYPE_PURCHASE: Signal.PURCHASE,
    EventType.EVENT_TYPE_LIKE: Signal.LIKE,
    EventType.EVENT_TYPE_DISLIKE: Signal.DISLIKE,
}


def signal_of(kind: EventType.ValueType, value: float) -> Signal:
    """What an event of the contract's type `kind` says; `value` counts for ratings alone."""
    if kind == EventType.EVENT_TYPE_RATING:
        return from_rating(value)
    return _SIGNALS.get(kind, Signal.OTHER)
