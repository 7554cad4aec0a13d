"""JSON <-> protobuf for one call: the body, the query and the path into a request, a response into bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.decode import Decode, Decoders
from gateway.encode import Encoders
from gateway.limits import QUERY_DEPTH_MAX
from gateway.scalars import Convert, DecodeError, shown, text_decoder_of
from gateway.wellknown import WELL_KNOWN, Read

_decoders = Decoders()
_encoders = Encoders()


class RequestReader:
    """Fills requests of one message type."""

    def __init__(self, message: Descriptor, body: str) -> None:
        """`body` as in google.api.http: "*" for the whole message, a field's name, or empty for none."""
        self.message_class = message_factory.GetMessageClass(message)
        self._message = message
        self._body = body
        target = message if body in ("", "*") else message.fields_by_name[body].message_type
        assert target is not None, f"{message.full_name}: the body {body!r} is not a message"
        self._decode: Decode = _decoders.of(target)
        self._texts: dict[str, TextField] = {}

    def read_body(self, request: Any, body: bytes) -> None:
        """Fills `request` from JSON text; an empty body is an empty object. Raises DecodeError."""
        try:
            value = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError as error:
            raise DecodeError(f"not JSON: {error}") from None
        target = request if self._body == "*" else getattr(request, self._body)
        self._decode(value, target, 1)

    def read_texts(self, request: Any, texts: Iterable[tuple[str, str]]) -> None:
        """Fills `request` from names and texts: path variables or query parameters. Raises DecodeError."""
        seen: set[str] = set()
        for name, text in texts:
            field = self._texts.get(name) or self._text_field(name)
            if field.path in seen and not field.repeated:
                raise DecodeError("given more than once").under(field.path)
            seen.add(field.path)
            try:
                field.fill(request, text)
            except DecodeError as error:
                raise error.under(field.path) from None

    def _text_field(self, name: str) -> TextField:
        field = TextField(self._message, name)
        self._texts[name] = field  # only names that exist, not deeper than QUERY_DEPTH_MAX
        return field


class TextField:
    """Where a dotted name of a query or a path points to in a message."""

    def __init__(self, message: Descriptor, name: str) -> None:
        *parents, last = self._walk(message, name)
        self.path = ".".join(field.json_name for field in (*parents, last))
        self.repeated = last.is_repeated
        self._parents = [field.name for field in parents]
        self._name = last.name
        self._read: Read | None = WELL_KNOWN[last.message_type.full_name][0] if last.message_type else None
        self._convert: Convert | None = None if last.message_type else text_decoder_of(last)

    @staticmethod
    def _walk(message: Descriptor, name: str) -> list[FieldDescriptor]:
        fields: list[FieldDescriptor] = []
        parts = name.split(".")
        at: Descriptor | None = message if len(parts) <= QUERY_DEPTH_MAX else None
        for part in parts:
            field = find_field(at, part) if at else None
            if field is None:
                raise DecodeError(f"no parameter {shown(name)} for {message.full_name}").under(name)
            fields.append(field)
            at = None if field.is_repeated else field.message_type
        if not fits_text(fields[-1]):
            raise DecodeError("can't be given in the URL; use a body").under(name)
        return fields

    def fill(self, request: Any, text: str) -> None:
        target = request
        for parent in self._parents:
            target = getattr(target, parent)
        if self._read:
            self._read(text, getattr(target, self._name))
        elif self._convert and self.repeated:
            getattr(target, self._name).append(self._convert(text))
        elif self._convert:
            setattr(target, self._name, self._convert(text))


def find_field(message: Descriptor, name: str) -> FieldDescriptor | None:
    """The field of that name, in snake_case or lowerCamelCase."""
    field = message.fields_by_name.get(name)
    return field or next((field for field in message.fields if field.json_name == name), None)


def fits_text(field: FieldDescriptor) -> bool:
    """Whether a field can stand in a URL: scalars, lists of scalars, and times."""
    if not field.message_type:
        return True
    return field.message_type.full_name in WELL_KNOWN and not field.is_repeated


class ResponseWriter:
    """Writes responses of one message type."""

    def __init__(self, message: Descriptor) -> None:
        self._encode = _encoders.of(message)

    def write(self, response: Any) -> bytes:
        """The response as UTF-8 JSON."""
        return orjson.dumps(self._encode(response))
