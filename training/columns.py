"""Reads events and items of any tabular file: CSV, TSV, JSON Lines or Parquet, with the columns the caller names.

A row that cannot be read is counted and set aside with its number and the reason; only a file or a mapping that
cannot be read at all is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from profiles.signals import Signal, from_rating
from training.dataset import TIME_S_MAX, Dataset, DatasetError, Items, build, category_masks, year_of
from training.tables import Row, open_table
from vectorizer.content import WordLists, hashes_of

BAD_SAMPLE_COUNT_MAX = 20  # rows quoted of those set aside; all are counted
ID_CHARACTER_COUNT_MAX = 128  # as the contract's ids
MILLISECONDS_MIN = 1e11  # a larger number of seconds would be the year 5138: it is milliseconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EventColumns:
    """Which column of the file holds which of our fields; None: the file has none."""

    user: str = "user"
    item: str = "item"
    time: str = "time"
    value: str | None = None
    type: str | None = None

    @classmethod
    def of(cls, mapping: dict[str, str]) -> EventColumns:
        """From `{"user": "user_id:token", ...}`; DatasetError names a field that we do not have."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(mapping) - set(known))
        if unknown:
            raise DatasetError(f"there is no field {', '.join(unknown)}: map some of {', '.join(known)}")
        return cls(**mapping)


@dataclass(frozen=True)
class ItemColumns:
    """The same for a file of items."""

    item: str = "item"
    categories: str | None = None
    released: str | None = None
    title: str | None = None
    separator: str = " "  # between the categories of one item


T = TypeVar("T")

# MovieLens-100k as RecBole ships it: the reference data set of `reco evaluate`.
MOVIELENS_EVENTS = EventColumns("user_id:token", "item_id:token", "timestamp:float", "rating:float")
MOVIELENS_ITEMS = ItemColumns(
    "item_id:token", "class:token_seq", "release_year:token", "movie_title:token_seq"
)


@dataclass
class BadRows:
    """What was set aside: how many rows for each reason, and the first few with their numbers (the first is 1)."""

    count: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    sample: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, fault: RowError) -> None:
        self.count += 1
        self.reasons[fault.reason] = self.reasons.get(fault.reason, 0) + 1
        if len(self.sample) < BAD_SAMPLE_COUNT_MAX:
            self.sample.append((number, str(fault)))


class RowError(ValueError):
    """One row cannot be used: `reason` is the kind of fault, the text quotes the value."""

    def __init__(self, reason: str, quoted: object = "") -> None:
        super().__init__(f"{reason}: {str(quoted)[:80]!r}" if quoted != "" else reason)
        self.reason = reason


@dataclass(frozen=True)
class MappedEvent:
    """One good row."""

    user: str
    item: str
    time_s: int
    code: int
    value: float  # NaN where the file has none


@dataclass(frozen=True)
class MappedItem:
    """One good row of a file of items."""

    item: str
    categories: tuple[str, ...]
    released: float  # years, 0 where unknown
    title: str


def read_events(path: Path, columns: EventColumns) -> tuple[list[MappedEvent], BadRows]:
    """The good events in the order of the file, and what was set aside."""
    wanted = [name for name in vars(columns).values() if name is not None]
    return _read(path, wanted, lambda row: map_event(row, columns))


def read_items(path: Path, columns: ItemColumns) -> tuple[list[MappedItem], BadRows]:
    """The good items in the order of the file, and what was set aside."""
    wanted = [columns.item, columns.categories, columns.released, columns.title]
    return _read(path, [name for name in wanted if name], lambda row: map_item(row, columns))


def _read(path: Path, wanted: list[str], convert: Callable[[Row], T]) -> tuple[list[T], BadRows]:
    good: list[T] = []
    bad = BadRows()
    for number, row, fault, _ in open_table(path, wanted):
        try:
            if fault is not None:
                raise RowError(fault)
            good.append(convert(row))
        except RowError as found:
            bad.add(number, found)
    return good, bad


def map_event(row: Row, columns: EventColumns) -> MappedEvent:
    """RowError if the row has no user, item or readable time, or an unreadable value or type."""
    value = value_of(row.get(columns.value)) if columns.value else math.nan
    return MappedEvent(
        identifier_of(row.get(columns.user), "user"),
        identifier_of(row.get(columns.item), "item"),
        parse_time_s(row.get(columns.time)),
        code_of(row.get(columns.type) if columns.type else None, value),
        value,
    )


def map_item(row: Row, columns: ItemColumns) -> MappedItem:
    """RowError if the row has no item; an unreadable release counts as unknown."""
    names = row.get(columns.categories) if columns.categories else None
    return MappedItem(
        identifier_of(row.get(columns.item), "item"),
        _names(names, columns.separator),
        year_of(row.get(columns.released) if columns.released else None),
        str(row.get(columns.title) or "") if columns.title else "",
    )


def _names(value: object, separator: str) -> tuple[str, ...]:
    names = value if isinstance(value, list | tuple) else str(value or "").split(separator)
    return tuple(str(name).strip() for name in names if str(name).strip())


def identifier_of(
    value: object, name: str, *, empty: bool = False, character_count_max: int | None = ID_CHARACTER_COUNT_MAX
) -> str:
    """The text of an id; RowError when there is none (unless it may be `empty`), or one that the contract refuses."""
    text = "" if value is None else str(value).strip()
    if not text and not empty:
        raise RowError(f"the {name} is missing")
    if character_count_max is not None and len(text) > character_count_max:
        raise RowError(f"the {name} is longer than {character_count_max} characters", text)
    if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
        raise RowError(f"the {name} holds a NUL or half a character", ascii(text))
    return text


def value_of(value: object) -> float:
    """The number of a cell, NaN for an empty one; RowError when it is neither."""
    if value is None or value == "":
        return math.nan
    try:
        number = float(str(value))
    except ValueError:
        raise RowError("the value is not a number", value) from None
    if not math.isfinite(number):
        raise RowError("the value is not a finite number", value)
    return number


def parse_time_s(value: object) -> int:
    """Unix seconds of a number (seconds, or milliseconds from MILLISECONDS_MIN), an ISO 8601 text or a datetime."""
    return parse_time_micros(value) // 1_000_000


def parse_time_micros(value: object, zone: tzinfo = UTC) -> int:
    """The same in microseconds; `zone` is that of texts and datetimes that name none."""
    if isinstance(value, datetime):
        return micros_of(value, zone)
    text = "" if value is None else str(value).strip()
    if not text:
        raise RowError("the time is missing")
    try:
        number = float(text)
    except ValueError:
        return micros_of(_iso_time(text), zone)
    return checked_micros(number * (1e3 if number >= MILLISECONDS_MIN else 1e6), value)


def _iso_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise RowError("the time is neither unix seconds nor ISO 8601", text) from None


def micros_of(time: datetime, zone: tzinfo) -> int:
    """Unix microseconds of a time; RowError when the contract has no such time."""
    whole = time if time.tzinfo else time.replace(tzinfo=zone)
    return checked_micros((whole - EPOCH) // timedelta(microseconds=1), time)


def checked_micros(micros: float, value: object) -> int:
    """`micros` as a whole number; RowError, quoting `value`, when the contract has no such time."""
    if not 0 <= micros <= TIME_S_MAX * 1e6:  # false for NaN too
        raise RowError("the time is outside of 1970 to 2106", value)
    return round(micros)


def code_of(kind: object, value: float) -> int:
    """The signal of a type's word, or, without one, of the value."""
    if kind is None or kind == "":
        return int(Signal.OTHER if math.isnan(value) else from_rating(value))
    name = str(kind).strip().upper().replace(" ", "_").replace("-", "_")
    if name == "RATING":
        if math.isnan(value):
            raise RowError("a rating without a value")
        return int(from_rating(value))
    return int(Signal.__members__.get(name, Signal.OTHER))


def to_dataset(events: Iterable[MappedEvent], items: Iterable[MappedItem] = ()) -> Dataset:
    """A data set of mapped rows: keys are given in the order of the items' ids; items without events are left out."""
    good = list(events)
    users, user_count = _numbered([event.user for event in good])
    ids = sorted({event.item for event in good})
    key_of = {item: key for key, item in enumerate(ids)}
    rows = np.array([key_of[event.item] for event in good], dtype=np.int32)
    codes = np.array([event.code for event in good], dtype=np.uint8)
    times = np.array([event.time_s for event in good], dtype=np.int64)
    return build(users, rows, codes, times, user_count, _described(ids, {item.item: item for item in items}))


def _numbered(names: list[str]) -> tuple[Any, int]:
    known: dict[str, int] = {}
    numbers = [known.setdefault(name, len(known)) for name in names]
    return np.array(numbers, dtype=np.int32), len(known)


def _described(ids: list[str], known: dict[str, MappedItem]) -> Items:
    bare = MappedItem("", (), 0.0, "")
    described = [known.get(item, bare) for item in ids]
    released = np.array([item.released for item in described], dtype=np.float32)
    masks = category_masks([item.categories for item in described])
    words = WordLists.of([hashes_of(item.categories, ()) for item in described])
    return Items(np.arange(len(ids), dtype=np.int32), masks, released, tuple(ids), words)
