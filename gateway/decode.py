"""JSON objects into protobuf messages, in one pass: one compiled closure a field, no reflection while a request waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor

from gateway.limits import DEPTH_MAX
from gateway.scalars import Convert, DecodeError, decoder_of, shown, text_decoder_of
from gateway.wellknown import WELL_KNOWN

Decode = Callable[[Any, Any, int], None]  # (JSON value, message to fill, depth)
Fill = Callable[[Any, Any, int], None]  # (message, JSON value of one field, depth)


class Decoders:
    """Compiles each message type once."""

    def __init__(self) -> None:
        self._compiled: dict[str, Decode] = {}

    def of(self, message: Descriptor) -> Decode:
        """The function that fills such a message from a JSON object; it raises DecodeError."""
        name = message.full_name
        if name not in self._compiled:
            fields: dict[str, tuple[str, Fill]] = {}
            self._compiled[name] = self._decoder(message, fields)  # before its fields: a type may hold itself
            for field in message.fields:
                fields[field.json_name] = fields[field.name] = (field.json_name, self._fill(field))
        return self._compiled[name]

    def _decoder(self, message: Descriptor, fields: dict[str, tuple[str, Fill]]) -> Decode:
        if message.full_name in WELL_KNOWN:
            read = WELL_KNOWN[message.full_name][0]
            return lambda value, target, depth: read(value, target)
        if message.full_name.startswith("google.protobuf."):
            return _refuse(f"{message.full_name} is not carried over REST")
        return _object_decoder(message, fields)

    def _fill(self, field: FieldDescriptor) -> Fill:
        if field.message_type and field.message_type.GetOptions().map_entry:
            return self._fill_map(field.name, field.message_type)
        if field.message_type:
            decode = self.of(field.message_type)
            return (
                _fill_messages(field.name, decode) if field.is_repeated else _fill_message(field.name, decode)
            )
        convert = decoder_of(field)
        return _fill_scalars(field.name, convert) if field.is_repeated else _fill_scalar(field.name, convert)

    def _fill_map(self, name: str, entry: Descriptor) -> Fill:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        if value.message_type:
            return _fill_message_map(name, text_decoder_of(key), self.of(value.message_type))
        return _fill_scalar_map(name, text_decoder_of(key), decoder_of(value))


def _object_decoder(message: Descriptor, fields: dict[str, tuple[str, Fill]]) -> Decode:
    full_name = message.full_name
    twins = {field.name: field.json_name for field in message.fields if field.name != field.json_name}
    oneofs = [_members(oneof) for oneof in message.oneofs if len(oneof.fields) > 1]

    def decode(value: Any, target: Any, depth: int) -> None:
        if type(value) is not dict:
            raise DecodeError(f"expected an object ({full_name}), got {shown(value)}")
        if depth > DEPTH_MAX:
            raise DecodeError(f"nested deeper than {DEPTH_MAX} messages")
        for given, item in value.items():
            entry = fields.get(given)
            if entry is None:
                raise DecodeError(f"no field {shown(given)} in {full_name}")
            if item is not None:  # null is the same as absent
                try:
                    entry[1](target, item, depth)
                except DecodeError as error:
                    raise error.under(entry[0]) from None
        _refuse_twins(value, twins)
        for members in oneofs:
            _refuse_several(value, members)

    return decode


def _members(oneof: OneofDescriptor) -> frozenset[str]:
    return frozenset(name for field in oneof.fields for name in (field.name, field.json_name))


def _refuse_twins(value: dict[str, Any], twins: dict[str, str]) -> None:
    for name in twins.keys() & value.keys():
        if twins[name] in value:
            raise DecodeError(f"given twice, as {name} and as {twins[name]}").under(twins[name])


def _refuse_several(value: dict[str, Any], members: frozenset[str]) -> None:
    given = sorted(name for name in members & value.keys() if value[name] is not None)
    if len(given) > 1:
        raise DecodeError(f"only one of {', '.join(given)} may be given")


def _refuse(description: str) -> Decode:
    def decode(value: Any, target: Any, depth: int) -> None:
        raise DecodeError(description)

    return decode


def _fill_scalar(name: str, convert: Convert) -> Fill:
    def fill(message: Any, value: Any, depth: int) -> None:
        setattr(message, name, convert(value))

    return fill


def _fill_message(name: str, decode: Decode) -> Fill:
    def fill(message: Any, value: Any, depth: int) -> None:
        child = getattr(message, name)
        decode(value, child, depth + 1)
        child.SetInParent()  # {} is present, though empty

    return fill


def _fill_scalars(name: str, convert: Convert) -> Fill:
    def fill(message: Any, value: Any, depth: int) -> None:
        append = getattr(message, name).append
        for index, item in enumerate(_listed(value)):
            try:
                append(convert(item))
            except DecodeError as error:
                raise error.under(f"[{index}]") from None

    return fill


def _fill_messages(name: str, decode: Decode) -> Fill:
    def fill(message: Any, value: Any, depth: int) -> None:
        add = getattr(message, name).add
        for index, item in enumerate(_listed(value)):
            try:
                decode(item, add(), depth + 1)
            except DecodeError as error:
                raise error.under(f"[{index}]") from None

    return fill


def _fill_scalar_map(name: str, key: Convert, convert: Convert) -> Fill:
    def fill(message: Any, value: Any, depth: int) -> None:
        target = getattr(message, name)
        for text, item in _entries(value):
            try:
                target[key(text)] = convert(item)
            except DecodeError as error:
                raise error.under(f"[{text!r}]") from None

    return fill


def _fill_message_map(name: str, key: Convert, decode: Decode) -> Fill:
    def fill(message: Any, value: Any, depth: int) -> None:
        target = getattr(message, name)
        for text, item in _entries(value):
            try:
                decode(item, target[key(text)], depth + 1)
            except DecodeError as error:
                raise error.under(f"[{text!r}]") from None

    return fill


def _listed(value: Any) -> list[Any]:
    if type(value) is not list:
        raise DecodeError(f"expected a list, got {shown(value)}")
    return value


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    if type(value) is not dict:
        raise DecodeError(f"expected an object, got {shown(value)}")
    return value.items()
