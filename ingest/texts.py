"""Texts that a store of ours can't hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from reco.ingest.v1.event_pb2 import Event

NUL = "\0"  # valid in a proto string, but not in PostgreSQL's text


def has_nul(event: Event) -> bool:
    """Whether a text of the event holds a NUL. Quick for events without context, which are nearly all."""
    texts = (
        event.id + event.user_id + event.session_id + event.item_id + event.attribution_token + event.surface
    )
    if NUL in texts:
        return True
    return event.HasField("context") and any(NUL in text for text in texts_of(event.context))


def texts_of(message: Message) -> Iterator[str]:
    """All texts of a message, its maps and the messages in it."""
    for descriptor, value in message.ListFields():
        entry = descriptor.message_type
        if entry is not None and entry.GetOptions().map_entry:
            for key, item in value.items():
                yield from _texts(key)
                yield from _texts(item)
        elif isinstance(value, (str, Message)):
            yield from _texts(value)
        elif not isinstance(value, (int, float, bool, bytes)):
            for item in value:
                yield from _texts(item)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Message):
        yield from texts_of(value)
