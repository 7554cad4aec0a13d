"""JSON schemas of the contract's messages: what the transcoder reads and writes, with the contract's words and rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway import rules
from gateway.rules import Schema

WELL_KNOWN_SCHEMAS: Final[Mapping[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
}
LONG: Final[Schema] = {"type": "string", "pattern": r"^-?\d{1,20}$"}  # JavaScript's numbers end at 2**53
SCALAR_SCHEMAS: Final[Mapping[int, Schema]] = {
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: LONG | {"format": "int64"},
    FieldDescriptor.CPPTYPE_UINT64: LONG | {"format": "uint64"},
}


def reachable(messages: Iterable[Descriptor]) -> dict[str, Descriptor]:
    """The messages and all that they hold, by full name; maps' entries and well-known types left out."""
    found: dict[str, Descriptor] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name in found or message.full_name in WELL_KNOWN_SCHEMAS:
            continue
        if not message.GetOptions().map_entry:
            found[message.full_name] = message
        waiting.extend(field.message_type for field in message.fields if field.message_type)
    return found


def component_name(full_name: str) -> str:
    """ "EventOutcome.Status" from "reco.ingest.v1.EventOutcome.Status": what follows the package."""
    parts = full_name.split(".")
    return ".".join(part for part in parts if part[0].isupper())


class Schemas:
    """Makes the components of the requests and responses given."""

    def __init__(
        self, requests: Iterable[Descriptor], responses: Iterable[Descriptor], comments: Mapping[str, str]
    ) -> None:
        self._comments = comments
        self._asked = reachable(requests)
        self._messages = self._asked | reachable(responses)

    def components(self) -> dict[str, Schema]:
        """Every message and enum by its component name."""
        made = {name: self._message(message) for name, message in self._messages.items()}
        enums = {
            field.enum_type.full_name: self._enum(field.enum_type)
            for message in self._messages.values()
            for field in _fields(message)
            if field.enum_type
        }
        every = made | enums
        names = {name: component_name(name) for name in every}
        assert len(set(names.values())) == len(names), "two types share a name; give one of them another"
        return {names[name]: every[name] for name in sorted(every, key=lambda name: names[name])}

    def field(self, field: FieldDescriptor) -> Schema:
        """The schema of one field's value, with its description."""
        schema = (
            self._map(field)
            if _is_map(field)
            else self._list(field)
            if field.is_repeated
            else self._one(field)
        )
        description = " ".join([self.comment(field.full_name), *_sentences(rules.field_words(field))]).strip()
        return schema | ({"description": description} if description else {})

    def comment(self, full_name: str) -> str:
        """The contract's words about a name, or none."""
        return self._comments.get(full_name, "")

    def _message(self, message: Descriptor) -> Schema:
        asked = message.full_name in self._asked
        description = " ".join([self.comment(message.full_name), *_sentences(rules.message_words(message))])
        schema: Schema = {
            "type": "object",
            "description": description,
            "properties": {field.json_name: self.field(field) for field in message.fields},
        }
        needed = [f.json_name for f in message.fields if (rules.required(f) if asked else not f.has_presence)]
        if needed:
            schema["required"] = needed
        if asked:
            schema["additionalProperties"] = False  # an unknown field is refused; answers may grow
        oneofs = rules.required_oneofs(message)
        if oneofs:
            schema["oneOf"] = [{"required": [name]} for names in oneofs for name in names]
        return schema

    def _enum(self, enum: EnumDescriptor) -> Schema:
        lines = [f"- `{value.name}`: {self.comment(_value_name(enum, value.name))}" for value in enum.values]
        description = "\n".join([self.comment(enum.full_name), "", *lines])
        return {
            "type": "string",
            "description": description,
            "enum": [value.name for value in enum.values],
        }

    def _one(self, field: FieldDescriptor) -> Schema:
        return self._value(field) | rules.constraints(rules.rules_of(field))

    def _list(self, field: FieldDescriptor) -> Schema:
        stated = rules.rules_of(field)
        items = self._value(field) | rules.constraints(stated.repeated.items)
        return {"type": "array", "items": items} | rules.list_constraints(stated)

    def _map(self, field: FieldDescriptor) -> Schema:
        stated = rules.rules_of(field)
        value = self._value(field.message_type.fields_by_name["value"]) if field.message_type else {}
        values = value | rules.constraints(stated.map.values)
        return {"type": "object", "additionalProperties": values} | rules.map_constraints(stated)

    def _value(self, field: FieldDescriptor) -> Schema:
        if field.message_type:
            name = field.message_type.full_name
            return dict(WELL_KNOWN_SCHEMAS.get(name) or reference(component_name(name)))
        if field.enum_type:
            return reference(component_name(field.enum_type.full_name))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return dict(SCALAR_SCHEMAS[field.cpp_type])


def reference(name: str) -> Schema:
    """A pointer to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _fields(message: Descriptor) -> list[FieldDescriptor]:
    """The fields, and those of its maps' entries."""
    entries = [field.message_type for field in message.fields if _is_map(field)]
    return [*message.fields, *(field for entry in entries if entry for field in entry.fields)]


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _value_name(enum: EnumDescriptor, value: str) -> str:
    return f"{enum.full_name}.{value}"


def _sentences(texts: list[str]) -> list[str]:
    return [f"Rule: {text}." for text in texts]
