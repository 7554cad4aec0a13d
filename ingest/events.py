"""An accepted event as the sinks see it: decoded, checked, and its parts in the shapes they store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1.event_pb2 import AcceptedEvent, Event, EventContext

from ingest.stream import Entry, Refused
from profiles.codec import U32_MAX
from profiles.limits import ITEM_KEY_MAX
from profiles.subjects import subject_of


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event and where it stands."""

    entry: Entry
    accepted: AcceptedEvent

    @property
    def offset(self) -> int:
        """The packed offset."""
        return self.entry.offset

    @property
    def subject(self) -> str:
        """Whose it is."""
        return subject_of(self.accepted.event.user_id, self.accepted.event.session_id)


def decode(entries: Sequence[Entry], sink: str) -> tuple[list[StreamEvent], list[Refused]]:
    """What can be read and is meant for `sink`, in order; and what can't be read, with the reason."""
    events: list[StreamEvent] = []
    poison: list[Refused] = []
    for entry in entries:
        if entry.sink and entry.sink != sink:
            continue
        event = StreamEvent(entry, AcceptedEvent())
        reason = _parse(event)
        if reason:
            poison.append(Refused(entry, reason))
        else:
            events.append(event)
    return events, poison


def _parse(event: StreamEvent) -> str:
    """Fills `event.accepted`; returns what is wrong with it, or ""."""
    accepted = event.accepted
    try:
        accepted.ParseFromString(event.entry.data)
    except DecodeError:
        return "not an AcceptedEvent"
    if not (accepted.event.id and accepted.event.item_id and 0 < accepted.item_key <= ITEM_KEY_MAX):
        return "event id, item id or item key is missing"
    if not (accepted.event.user_id or accepted.event.session_id):
        return "user and session are missing"
    if not (0 <= accepted.event.event_time.seconds <= U32_MAX and accepted.accept_time.seconds > 0):
        return "a time is missing or out of range"
    return ""


def micros_of(time: Timestamp) -> int:
    """Microseconds since 1970."""
    return time.seconds * 1_000_000 + time.nanos // 1000


def context_json(event: Event) -> str | None:
    """The context as JSON with sorted keys and what is empty left out; None when there is none."""
    if not event.HasField("context"):
        return None
    context = event.context
    parts: dict[str, object] = {
        name: value
        for name in ("device", "locale", "country", "referrer")
        if (value := getattr(context, name))
    }
    if context.attributes:
        parts["attributes"] = _attributes(context)
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()


def _attributes(context: EventContext) -> dict[str, object]:
    return {
        name: getattr(value, value.WhichOneof("kind") or "string_value")
        for name, value in context.attributes.items()
    }
