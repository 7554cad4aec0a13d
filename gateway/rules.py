"""The contract's validation rules (buf.validate) as constraints of JSON Schema.

What JSON Schema can't say (CEL) goes into the description.
"""

from __future__ import annotations

from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

Schema = dict[str, Any]

STRING_RULES: Final = {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern"}
NUMBER_RULES: Final = {
    "gte": "minimum",
    "gt": "exclusiveMinimum",
    "lte": "maximum",
    "lt": "exclusiveMaximum",
}
LIST_RULES: Final = {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"}
MAP_RULES: Final = {"min_pairs": "minProperties", "max_pairs": "maxProperties"}


def rules_of(field: FieldDescriptor) -> Any:
    """The field's FieldRules, empty ones when it has none."""
    return field.GetOptions().Extensions[validate_pb2.field]


def constraints(rules: Any) -> Schema:
    """The constraints on one value: a scalar, or an element."""
    kind = rules.WhichOneof("type")
    if kind is None or kind in ("repeated", "map"):
        return {}
    stated = getattr(rules, kind)
    table = STRING_RULES if kind == "string" else NUMBER_RULES
    found = _translate(stated, table) if kind not in ("timestamp", "duration", "enum", "bool") else {}
    if kind == "string" and stated.WhichOneof("well_known") in ("uri", "email", "uuid"):
        found["format"] = stated.WhichOneof("well_known")
    return found


def list_constraints(rules: Any) -> Schema:
    """The constraints on a list as a whole."""
    return _translate(rules.repeated, LIST_RULES)


def map_constraints(rules: Any) -> Schema:
    """The constraints on a map as a whole, and on its keys."""
    found = _translate(rules.map, MAP_RULES)
    keys = constraints(rules.map.keys)
    return found | ({"propertyNames": keys} if keys else {})


def _translate(stated: Any, table: dict[str, str]) -> Schema:
    given = {field.name: value for field, value in stated.ListFields()}
    return {word: given[rule] for rule, word in table.items() if given.get(rule)} | {
        word: 0 for rule, word in table.items() if rule in given and given[rule] == 0
    }


def excluded_numbers(rules: Any) -> set[int]:
    """Enum numbers that the rules refuse."""
    return set(rules.enum.not_in)


def required(field: FieldDescriptor) -> bool:
    """Whether a message without the field breaks a rule."""
    rules = rules_of(field)
    kind = rules.WhichOneof("type")
    if field.has_presence or kind is None:
        return bool(rules.required)
    stated = getattr(rules, kind)
    least = {"string": "min_len", "repeated": "min_items", "map": "min_pairs"}.get(kind)
    refused = kind == "enum" and 0 in excluded_numbers(rules)
    return bool(rules.required or refused or (least and getattr(stated, least)))


def field_words(field: FieldDescriptor) -> list[str]:
    """What the CEL rules of a field say to people."""
    return [rule.message for rule in rules_of(field).cel]


def message_words(message: Descriptor) -> list[str]:
    """What the CEL rules of a message say to people."""
    return [rule.message for rule in message.GetOptions().Extensions[validate_pb2.message].cel]


def required_oneofs(message: Descriptor) -> list[list[str]]:
    """JSON names of the members of each oneof of which one must be given."""
    return [
        [field.json_name for field in oneof.fields]
        for oneof in message.oneofs
        if oneof.GetOptions().Extensions[validate_pb2.oneof].required
    ]
