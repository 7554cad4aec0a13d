"""Events and items for tests."""

from __future__ import annotations

import itertools

from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1.event_pb2 import AcceptedEvent, Event, EventType
from reco.ingest.v1.ingest_service_pb2 import UpsertItemsRequest
from reco.ingest.v1.item_pb2 import Item

EVENT_TIME_S = 1_790_000_000
_numbers = itertools.count(1)


def event(**fields: object) -> Event:
    """A valid event with an id of its own; `fields` override."""
    number = next(_numbers)
    made: dict[str, object] = {
        "id": f"event-{number}",
        "user_id": f"user-{number % 7}",
        "item_id": f"item-{number % 10}",
        "type": EventType.EVENT_TYPE_CLICK,
        "event_time": Timestamp(seconds=EVENT_TIME_S + number),
    }
    return Event(**(made | fields))  # type: ignore[arg-type]  # fields by name


def items(count: int = 10) -> UpsertItemsRequest:
    """item-0, item-1, ..."""
    return UpsertItemsRequest(items=[Item(id=f"item-{i}", title=f"Item {i}") for i in range(count)])


def accepted(event_id: str, number: int) -> AcceptedEvent:
    """An accepted event as the stream has it: one of seven users, one of ten items."""
    sent = event(id=event_id, user_id=f"user-{number % 7}", item_id=f"item-{number % 10}")
    sent.event_time.FromSeconds(EVENT_TIME_S + number)
    made = AcceptedEvent(event=sent, item_key=number % 10 + 1)
    made.accept_time.FromSeconds(EVENT_TIME_S + number)
    return made
