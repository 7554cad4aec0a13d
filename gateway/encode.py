"""Protobuf messages into JSON objects, in one pass.

Fields without presence are always there (also 0, "", [] and {}), so that a client sees one shape; fields with presence
(messages, `optional`, `oneof`) are there when they are set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.scalars import Convert, encoder_of
from gateway.wellknown import WELL_KNOWN

Encode = Callable[[Any], Any]
Entry = tuple[str, str, Convert]  # JSON name, attribute, conversion


class Encoders:
    """Compiles each message type once."""

    def __init__(self) -> None:
        self._compiled: dict[str, Encode] = {}

    def of(self, message: Descriptor) -> Encode:
        """The function that turns such a message into what orjson writes."""
        name = message.full_name
        if name in WELL_KNOWN:
            return WELL_KNOWN[name][1]
        if name not in self._compiled:
            plain: list[tuple[str, str]] = []
            always: list[Entry] = []
            present: list[Entry] = []
            self._compiled[name] = _object_encoder(plain, always, present)
            for field in message.fields:
                self._place(field, plain, always, present)
        return self._compiled[name]

    def _place(
        self, field: FieldDescriptor, plain: list[tuple[str, str]], always: list[Entry], present: list[Entry]
    ) -> None:
        convert = self._converter(field)
        if field.has_presence:
            present.append((field.json_name, field.name, convert or _same))
        elif convert is None:
            plain.append((field.json_name, field.name))
        else:
            always.append((field.json_name, field.name, convert))

    def _converter(self, field: FieldDescriptor) -> Convert | None:
        if field.message_type and field.message_type.GetOptions().map_entry:
            return self._map_converter(field.message_type)
        convert = self.of(field.message_type) if field.message_type else encoder_of(field)
        if not field.is_repeated:
            return convert
        return list if convert is None else lambda values: [convert(value) for value in values]

    def _map_converter(self, entry: Descriptor) -> Convert:
        key = entry.fields_by_name["key"]
        text = _bool_key if key.cpp_type == FieldDescriptor.CPPTYPE_BOOL else str
        convert = self._converter(entry.fields_by_name["value"]) or _same
        return lambda entries: {text(k): convert(v) for k, v in entries.items()}


def _object_encoder(plain: list[tuple[str, str]], always: list[Entry], present: list[Entry]) -> Encode:
    def encode(message: Any) -> dict[str, Any]:
        answer = {name: getattr(message, field) for name, field in plain}
        for name, field, convert in always:
            answer[name] = convert(getattr(message, field))
        for name, field, convert in present:
            if message.HasField(field):
                answer[name] = convert(getattr(message, field))
        return answer

    return encode


def _same(value: Any) -> Any:
    return value


def _bool_key(value: bool) -> str:
    return "true" if value else "false"
