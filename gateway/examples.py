"""Example values for the documentation, made from the contract: a word that a comment quotes, or one that fits the name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway import rules

QUOTED = re.compile(r'"([^"]+)"')
CODE = re.compile(r"`[^`]*`")
TIME_EXAMPLE: Final = "2026-11-23T10:15:00Z"
WELL_KNOWN_EXAMPLES: Final = {
    "google.protobuf.Timestamp": TIME_EXAMPLE,
    "google.protobuf.Duration": "1.5s",
    "google.protobuf.FieldMask": "title",
}


class Examples:
    """Makes one example a message."""

    def __init__(self, comments: Mapping[str, str]) -> None:
        self._comments = comments

    def request(self, message: Descriptor) -> dict[str, Any]:
        """What must be given, and what a comment shows: holds every rule of the contract."""
        fields = [field for field in message.fields if rules.required(field) or self._telling(field)]
        subjects = [f for f in message.fields if f.name == "user_id"]  # most calls are about somebody
        first = _first_of_oneofs(message)
        chosen = [f for f in message.fields if f in fields or f in subjects or f in first]
        return {field.json_name: self._field(field, self.request) for field in chosen}

    def response(self, message: Descriptor) -> dict[str, Any]:
        """Every field, so that the shape is seen; of each oneof the first."""
        first = _first_of_oneofs(message)
        shown = [f for f in message.fields if _real_oneof(f) is None or f in first]
        return {field.json_name: self._field(field, self.response) for field in shown}

    def _telling(self, field: FieldDescriptor) -> bool:
        if field.name == "custom_type" or field.has_presence:
            return False
        return bool(field.cpp_type == FieldDescriptor.CPPTYPE_STRING or field.message_type) and bool(
            self._quoted(field)
        )

    def _quoted(self, field: FieldDescriptor) -> str:
        """The first word in double quotes of the field's comment; code in backticks is about other fields."""
        found = QUOTED.search(CODE.sub("", self._comments.get(field.full_name, "")))
        return found[1] if found else ""

    def _field(self, field: FieldDescriptor, make: Any) -> Any:
        if field.message_type and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            return {self._quoted(field) or "name": self._one(value, make)}
        one = self._one(field, make)
        return [one] if field.is_repeated else one

    def _one(self, field: FieldDescriptor, make: Any) -> Any:
        if field.message_type:
            known = WELL_KNOWN_EXAMPLES.get(field.message_type.full_name)
            return known or make(field.message_type)
        if field.enum_type:
            return _enum_example(field.enum_type)
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return self._text(field)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return True
        if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
            return "20"
        return 0.5 if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else 1

    def _text(self, field: FieldDescriptor) -> str:
        """ "home" if a comment says so; else "user-1" for `user_id`, "item-1" for the `id` of an Item."""
        owner = field.containing_type.name if field.containing_type else "value"
        name = owner if field.name == "id" else field.name
        plain = name.removesuffix("_ids").removesuffix("_id").replace("_", "-").lower()
        return self._quoted(field) or f"{plain}-1"


def _first_of_oneofs(message: Descriptor) -> list[FieldDescriptor]:
    return [oneof.fields[0] for oneof in message.oneofs if len(oneof.fields) > 1]


def _real_oneof(field: FieldDescriptor) -> Any:
    """The oneof of the field, unless it is the hidden one that `optional` makes."""
    oneof = field.containing_oneof
    return oneof if oneof is not None and len(oneof.fields) > 1 else None


def _enum_example(enum: EnumDescriptor) -> str:
    return next((value.name for value in enum.values if value.number == 1), enum.values[0].name)
