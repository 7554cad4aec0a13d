"""JSON texts by choices: nearly what a reader wants, with one thing or another that it may not expect."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.fuzz.target import Choices

FIELDS_MAX = 5
ODD = (
    "null", "true", "false", "0", "-0", "-1", "1.5", "3.0", "1e400", "9007199254740993", "-9223372036854775808",
    "18446744073709551615", "18446744073709551616", "3.4028235677973366e38", "5e-324", '""', '"NaN"', '"Infinity"', '"3"', '"-0"',
    '"1e5"', '"\\u0000"', '"\\ud83d\\ude00"', '"true"', "[]", "{}", "[null]", "[[1]]", '{"a":1}', '{"":null}',
)  # fmt: skip
TIMES = (
    "2026-11-23T10:15:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00+01:00",
    "2026-02-30T00:00:00Z", "2026-11-23t10:15:00z", "2026-11-23T24:00:00Z", "2026-11-23T10:15:60Z", "2026-11-23T10:15:00.1234567890Z",
)  # fmt: skip
NUMBERS = ("0", "1", "-1", "7", "2147483647", "2147483648", "1.0", "2.5", '"5"', "1e2")


def object_text(choices: Choices, message: Descriptor, depth: int = 3) -> str:
    """An object for a message type: some of its fields, mostly of the right kind."""
    parts = []
    for _ in range(choices.number(FIELDS_MAX)):
        field = choices.one_of(message.fields)
        name = choices.one_of((field.json_name, field.name, field.json_name, "odd"))
        parts.append(f"{json.dumps(name)}:{_value(choices, field, depth)}")
    return "{" + ",".join(parts) + "}"


def _value(choices: Choices, field: FieldDescriptor, depth: int) -> str:
    if not choices.number(8) or depth <= 0:
        return choices.one_of(ODD)
    if field.message_type and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        pairs = (f"{_text(choices)}:{_one(choices, value, depth)}" for _ in range(choices.number(3)))
        return "{" + ",".join(pairs) + "}"
    if field.is_repeated:
        return "[" + ",".join(_one(choices, field, depth) for _ in range(choices.number(4))) + "]"
    return _one(choices, field, depth)


def _one(choices: Choices, field: FieldDescriptor, depth: int) -> str:
    if field.message_type and field.message_type.full_name == "google.protobuf.Timestamp":
        return json.dumps(choices.one_of(TIMES))
    if field.message_type:
        return object_text(choices, field.message_type, depth - 1)
    if field.enum_type:
        names = [value.name for value in field.enum_type.values]
        return choices.one_of((*(f'"{name}"' for name in names), "1", "99", '"1"'))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text(choices)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return choices.one_of(("true", "false", '"true"'))
    return choices.one_of((*NUMBERS, *ODD))


def _text(choices: Choices) -> str:
    return json.dumps(choices.text(), ensure_ascii=not choices.number(2))


def altered(choices: Choices, value: Any) -> str:
    """JSON of a value with odd things in some of its places."""
    if not choices.number(6):
        return choices.one_of(ODD)
    if isinstance(value, dict):
        kept = [key for key in value if choices.number(12) != 1]
        return "{" + ",".join(f"{json.dumps(key)}:{altered(choices, value[key])}" for key in kept) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(altered(choices, each) for each in value) + "]"
    return json.dumps(value)
