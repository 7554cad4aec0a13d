"""One row of a file -> one event of the contract."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from reco.ingest.v1 import event_pb2

from cli.loading.mapping import EventMapping, Kind
from profiles.signals import Signal
from training.columns import RowError, code_of, identifier_of, value_of
from training.tables import Row

EVENT_ID_CHARACTER_COUNT_MAX = 64  # the contract's
CUSTOM_TYPE = "imported"  # of events whose type the file does not tell
TYPE_OF: dict[int, int] = {
    Signal.VIEW: event_pb2.EVENT_TYPE_VIEW,
    Signal.CLICK: event_pb2.EVENT_TYPE_CLICK,
    Signal.ADD_TO_CART: event_pb2.EVENT_TYPE_ADD_TO_CART,
    Signal.PURCHASE: event_pb2.EVENT_TYPE_PURCHASE,
    Signal.RATING_LOW: event_pb2.EVENT_TYPE_RATING,
    Signal.RATING_MID: event_pb2.EVENT_TYPE_RATING,
    Signal.RATING_HIGH: event_pb2.EVENT_TYPE_RATING,
    Signal.LIKE: event_pb2.EVENT_TYPE_LIKE,
    Signal.DISLIKE: event_pb2.EVENT_TYPE_DISLIKE,
    Signal.OTHER: event_pb2.EVENT_TYPE_CUSTOM,
}


class EventMaker:
    """Makes the events of one file."""

    def __init__(self, mapping: EventMapping) -> None:
        self._columns = mapping.columns
        self._types = mapping.types
        self._defaults = mapping.defaults
        self._times = mapping.times

    def make(self, number: int, row: Row) -> event_pb2.Event:
        """RowError if the row has no subject, item or readable time, or an unreadable value or type."""
        value = value_of(self._cell(row, "value"))
        kind, custom = self._kind(row, value)
        event = event_pb2.Event(
            user_id=self._subject(row, "user"),
            session_id=self._subject(row, "session"),
            item_id=identifier_of(self._cell(row, "item"), "item"),
            type=kind,  # type: ignore[arg-type]  # a number of the enum
            custom_type=custom,
            value=None if math.isnan(value) else value,
            attribution_token=self._text(row, "attribution_token"),
            surface=self._text(row, "surface"),
        )
        if not (event.user_id or event.session_id):
            raise RowError("the user is missing")
        event.event_time.FromMicroseconds(self._times.micros(self._cell(row, "time")))
        self._add_context(event, row)
        event.id = self._id(event, number, row)
        return event

    def _cell(self, row: Row, name: str) -> Any:
        value = row.get(self._columns[name]) if name in self._columns else None
        return self._defaults.get(name) if value is None or value == "" else value

    def _text(self, row: Row, name: str) -> str:
        value = self._cell(row, name)
        return "" if value is None else identifier_of(value, name, empty=True, character_count_max=None)

    def _subject(self, row: Row, name: str) -> str:
        return identifier_of(self._cell(row, name), name, empty=True)

    def _kind(self, row: Row, value: float) -> Kind:
        word = row.get(self._columns["type"]) if "type" in self._columns else None
        if word is None or word == "":
            if "type" in self._defaults:
                kind: Kind = self._defaults["type"]
                return kind
        elif self._types:
            if str(word) not in self._types:
                raise RowError("the type is not one of [events.types]", word)
            return self._types[str(word)]
        found = TYPE_OF[code_of(word, value)]
        return found, CUSTOM_TYPE if found == event_pb2.EVENT_TYPE_CUSTOM else ""

    def _add_context(self, event: event_pb2.Event, row: Row) -> None:
        for name in ("device", "locale", "country", "referrer"):
            if text := self._text(row, name):
                setattr(event.context, name, text)

    def _id(self, event: event_pb2.Event, number: int, row: Row) -> str:
        """The file's own, or one of what the row says and of its number: equal rows are different events.

        So the same file gives the same ids, also one that has grown, or in which a row was mended. Counting equal rows
        instead would need a memory of all of them.
        """
        if "id" in self._columns:
            return identifier_of(
                self._cell(row, "id"), "id", character_count_max=EVENT_ID_CHARACTER_COUNT_MAX
            )
        said = event.SerializeToString(deterministic=True)
        return hashlib.blake2b(said, digest_size=16, salt=number.to_bytes(8, "big")).hexdigest()
