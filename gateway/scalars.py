"""One JSON value to one protobuf value and back, by the field's type, as ProtoJSON says.

Stricter than ProtoJSON in one thing: NaN and the infinities are refused, since no field of ours means anything by them.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from typing import Any, Final, Self

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

FLOAT_BOUND: Final = 3.4028235677973366e38  # what is below rounds to a finite IEEE 754 single
FLOAT_DIGITS_MAX: Final = 9  # that many always bring a single back
TEXT_SHOWN_MAX: Final = 40  # of a wrong value in an error

NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
INTEGER = re.compile(r"-?\d{1,20}")
INTEGER_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

Convert = Callable[[Any], Any]


class DecodeError(Exception):
    """The caller's: a value does not fit its field. `path` is the field's JSON path, such as `events[0].itemId`."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description
        self.path = ""

    def under(self, part: str) -> Self:
        """The same error, seen from one level further up."""
        separator = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{part}{separator}{self.path}"
        return self


def shown(value: object) -> str:
    """A wrong value as an error shows it: JSON's word for its kind, and the start of it if it is short."""
    kinds = {dict: "an object", list: "a list", bool: str(value).lower(), type(None): "null"}
    kind = kinds.get(type(value))
    if kind:
        return kind
    text = repr(value)
    return text if len(text) <= TEXT_SHOWN_MAX else f"{text[:TEXT_SHOWN_MAX]}..."


def decoder_of(field: FieldDescriptor) -> Convert:
    """The function that turns a JSON value into the field's (or one element's); it raises DecodeError."""
    if field.cpp_type in INTEGER_RANGES:
        return _integer(*INTEGER_RANGES[field.cpp_type])
    if field.enum_type:
        return _enum(field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes
    return {
        FieldDescriptor.CPPTYPE_STRING: _string,
        FieldDescriptor.CPPTYPE_BOOL: _bool,
        FieldDescriptor.CPPTYPE_DOUBLE: _double,
        FieldDescriptor.CPPTYPE_FLOAT: _float,
    }[field.cpp_type]


def encoder_of(field: FieldDescriptor) -> Convert | None:
    """The function that turns the field's value into JSON's; None when the value can go as it is."""
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return str  # JavaScript's numbers end at 2**53
    if field.enum_type:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    return {
        FieldDescriptor.CPPTYPE_DOUBLE: _finite,
        FieldDescriptor.CPPTYPE_FLOAT: _shortest,
    }.get(field.cpp_type)


def text_decoder_of(field: FieldDescriptor) -> Convert:
    """As `decoder_of`, for the text of a path or a query: there, `true` and `false` are words."""
    return _bool_text if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else decoder_of(field)


def _string(value: Any) -> str:
    if type(value) is not str:
        raise DecodeError(f"expected a string, got {shown(value)}")
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise DecodeError(f"expected true or false, got {shown(value)}")
    return value


def _bool_text(value: str) -> bool:
    if value not in ("true", "false"):
        raise DecodeError(f"expected true or false, got {shown(value)}")
    return value == "true"


def _integer(low: int, high: int) -> Convert:
    def convert(value: Any) -> int:
        if type(value) is not int:
            value = _whole(value)
        if not low <= value <= high:
            raise DecodeError(f"expected an integer from {low} to {high}, got {shown(value)}")
        return int(value)

    return convert


def _whole(value: Any) -> int:
    """An integer that came as 3.0 or as "3"; both are ProtoJSON."""
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and INTEGER.fullmatch(value):
        return int(value)
    raise DecodeError(f"expected an integer, got {shown(value)}")


def _double(value: Any) -> float:
    if type(value) is float or type(value) is int or (type(value) is str and NUMBER.fullmatch(value)):
        number = float(value)
    else:
        raise DecodeError(f"expected a finite number, got {shown(value)}")
    if not math.isfinite(number):
        raise DecodeError(f"expected a finite number, got {shown(value)}")
    return number


def _float(value: Any) -> float:
    number = _double(value)
    if abs(number) >= FLOAT_BOUND:
        raise DecodeError(f"expected a number below {FLOAT_BOUND:.8g}, got {shown(value)}")
    return number


def _bytes(value: Any) -> bytes:
    """Base64, the URL's alphabet or the standard one, padded or not."""
    text = _string(value).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(f"expected base64, got {shown(value)}") from None


def _enum(enum: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in enum.values}
    integer = _integer(*INTEGER_RANGES[FieldDescriptor.CPPTYPE_INT32])

    def convert(value: Any) -> int:
        number = numbers.get(value) if type(value) is str else None
        if number is not None:
            return number
        if type(value) is int or (type(value) is str and INTEGER.fullmatch(value)):
            return int(integer(value))
        raise DecodeError(f"expected a name of {enum.full_name} or its number, got {shown(value)}")

    return convert


def _finite(value: float) -> float | str:
    """ProtoJSON's words for what JSON has no number for."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _shortest(value: float) -> float | str:
    """The shortest decimal that is the same single: 0.1, not 0.10000000149011612."""
    if not math.isfinite(value):
        return _finite(value)
    for digits in range(6, FLOAT_DIGITS_MAX):
        short = float(f"{value:.{digits}g}")
        if abs(short) < FLOAT_BOUND and _single(short) == value:
            return short
    return float(f"{value:.{FLOAT_DIGITS_MAX}g}")


def _single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
