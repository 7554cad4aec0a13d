"""The messages that ProtoJSON writes as one value: times, durations, field masks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.scalars import DecodeError, shown

TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339, to the nanosecond
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)

Read = Callable[[Any, Any], None]
Write = Callable[[Any], Any]


def read_time(value: Any, message: Any) -> None:
    """Fills a Timestamp from RFC 3339 text."""
    found = TIME.fullmatch(value) if type(value) is str else None
    if found is None:
        raise DecodeError(f"expected a time such as 2026-11-23T10:15:00Z, got {shown(value)}")
    second, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(second + zone)
        # A zone may carry the first and the last hours beyond what the year says: then this overflows, too.
        message.seconds = (moment.astimezone(UTC) - EPOCH) // SECOND
    except (ValueError, OverflowError):
        raise DecodeError(f"expected a time from year 1 to 9999, got {shown(value)}") from None
    message.nanos = int(fraction.ljust(9, "0")) if fraction else 0
    message.SetInParent()


def write_time(message: Any) -> str:
    """RFC 3339 in UTC, with 0, 3, 6 or 9 digits of a second; what lies outside of years 1 to 9999 can't be written."""
    nanos = message.nanos
    text = (EPOCH + timedelta(seconds=message.seconds)).replace(tzinfo=None).isoformat()
    if nanos == 0:
        return f"{text}Z"
    if nanos % 1_000_000 == 0:
        return f"{text}.{nanos // 1_000_000:03d}Z"
    if nanos % 1_000 == 0:
        return f"{text}.{nanos // 1_000:06d}Z"
    return f"{text}.{nanos:09d}Z"


def _read_text(value: Any, message: Any) -> None:
    """Durations ("3.5s") and field masks ("a,bC") are rare: protobuf's own readers do."""
    try:
        message.FromJsonString(value)
    except (ValueError, TypeError, AttributeError):
        raise DecodeError(f"expected a {message.DESCRIPTOR.name}, got {shown(value)}") from None
    message.SetInParent()


def _write_text(message: Any) -> Any:
    return message.ToJsonString()


WELL_KNOWN: Final[dict[str, tuple[Read, Write]]] = {
    "google.protobuf.Timestamp": (read_time, write_time),
    "google.protobuf.Duration": (_read_text, _write_text),
    "google.protobuf.FieldMask": (_read_text, _write_text),
}
