"""How a file writes its times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from training.columns import RowError, checked_micros, micros_of, parse_time_micros, value_of
from training.dataset import DatasetError

AUTO = "auto"  # unix seconds or milliseconds, by their size, or ISO 8601
UNITS = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}


@dataclass(frozen=True)
class Times:
    """`form` is "auto", a unit since 1970, or a pattern of strptime; `zone` is that of times that name none."""

    form: str = AUTO
    zone: tzinfo = UTC

    @classmethod
    def of(cls, form: Any, zone: Any) -> Times:
        """DatasetError when the form is none of these, or there is no such zone."""
        if not isinstance(form, str) or not (form == AUTO or form in UNITS or "%" in form):
            known = ", ".join([AUTO, *UNITS])
            raise DatasetError(
                f"time_format is {form!r}: give {known}, or a pattern such as '%d.%m.%Y %H:%M'"
            )
        try:
            return cls(form, ZoneInfo(zone))
        except (OSError, KeyError, ValueError, TypeError):  # not found, or no name at all
            raise DatasetError(f"time_zone is {zone!r}: give a name such as 'Europe/Vienna'") from None

    def micros(self, value: object) -> int:
        """Unix microseconds; RowError when the value does not have the form."""
        if self.form == AUTO or isinstance(value, datetime):
            return parse_time_micros(value, self.zone)
        text = "" if value is None else str(value).strip()
        if not text:
            raise RowError("the time is missing")
        if self.form in UNITS:
            return checked_micros(_number(text) * UNITS[self.form], value)
        try:
            return micros_of(datetime.strptime(text, self.form), self.zone)
        except ValueError:
            raise RowError(f"the time is not written as {self.form}", text) from None


def _number(text: str) -> float:
    try:
        return value_of(text)
    except RowError:
        raise RowError("the time is not a number", text) from None
