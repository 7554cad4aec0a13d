"""What a file's columns and words mean: from the options --map and --map-item, and from a mapping file (docs/load.md)."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reco.ingest.v1 import event_pb2

from cli.loading.times import AUTO, Times
from training.columns import ItemColumns, RowError, value_of
from training.dataset import DatasetError

FIELDS = (
    "id", "user", "session", "item", "time", "value", "type", "surface", "attribution_token",
    "device", "locale", "country", "referrer",
)  # fmt: skip
DEFAULTS = ("type", "value", "surface", "device", "locale", "country", "referrer")
ITEM_FIELDS = tuple(ItemColumns.__dataclass_fields__)
CUSTOM = "custom:"  # before a type of the caller's own
TYPES = {
    name.removeprefix("EVENT_TYPE_").lower(): number
    for name, number in event_pb2.EventType.items()
    if number not in (event_pb2.EVENT_TYPE_UNSPECIFIED, event_pb2.EVENT_TYPE_CUSTOM)
}
CUSTOM_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")  # the contract's, of custom_type
CUSTOM_CHARACTER_COUNT_MAX = 32

Kind = tuple[int, str]  # the contract's type, and the custom one's name


@dataclass(frozen=True)
class EventMapping:
    """Columns by our field, types by the file's word, what stands where a cell is empty, and how times are written."""

    columns: Mapping[str, str] = field(default_factory=lambda: _columns({}))
    types: Mapping[str, Kind] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    times: Times = field(default_factory=Times)


def from_options(events: Mapping[str, str], items: Mapping[str, str]) -> tuple[EventMapping, ItemColumns]:
    """The mapping of --map and --map-item alone. DatasetError names a field that we do not have."""
    _known(events, FIELDS, "--map")
    _known(items, ITEM_FIELDS, "--map-item")
    return EventMapping(_columns(events)), ItemColumns(**items)


def from_file(
    path: Path, events: Mapping[str, str], items: Mapping[str, str]
) -> tuple[EventMapping, ItemColumns]:
    """The mapping of a TOML file; what the options say as well counts before it. DatasetError says what is wrong where."""
    from_options(events, items)
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        return _events(read, events), _items(read, items)
    except (DatasetError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: {error}; docs/load.md shows a mapping file") from None


def _events(read: dict[str, Any], options: Mapping[str, str]) -> EventMapping:
    _known(read, ("events", "items"), "the file")
    table = _table(read, "events")
    names = {"types", "defaults", "time_format", "time_zone"}
    _known(table, (*FIELDS, *names), "[events]")
    columns = {name: _text(value, f"[events] {name}") for name, value in table.items() if name not in names}
    return EventMapping(
        _columns({**columns, **options}),
        {word: kind_of(kind) for word, kind in _table(table, "types").items()},
        _defaults(_table(table, "defaults")),
        Times.of(table.get("time_format", AUTO), table.get("time_zone", "UTC")),
    )


def _items(read: dict[str, Any], options: Mapping[str, str]) -> ItemColumns:
    table = _table(read, "items")
    _known(table, ITEM_FIELDS, "[items]")
    columns = {name: _text(value, f"[items] {name}") for name, value in table.items()}
    return ItemColumns(**{**columns, **options})


def _columns(given: Mapping[str, str]) -> dict[str, str]:
    """With the columns that every file has: a user, unless it has sessions alone, an item and a time."""
    usual = {"item": "item", "time": "time"} | ({} if "session" in given else {"user": "user"})
    return usual | dict(given)


def _defaults(table: Mapping[str, Any]) -> dict[str, Any]:
    _known(table, DEFAULTS, "[events.defaults]")
    checks: dict[str, Callable[[Any], Any]] = {"type": kind_of, "value": _value}
    return {
        name: checks[name](value) if name in checks else _text(value, f"[events.defaults] {name}")
        for name, value in table.items()
    }


def _value(value: Any) -> float:
    try:
        return value_of(value)
    except RowError as error:
        raise DatasetError(f"[events.defaults] value: {error}") from None


def kind_of(name: Any) -> Kind:
    """`"purchase"` or `"custom:wish"` as the contract has it; DatasetError when it is neither."""
    own = str(name).removeprefix(CUSTOM)
    if isinstance(name, str) and name in TYPES:
        return TYPES[name], ""
    if own != name and 0 < len(own) <= CUSTOM_CHARACTER_COUNT_MAX and CUSTOM_CHARACTERS.issuperset(own):
        return int(event_pb2.EVENT_TYPE_CUSTOM), own
    raise DatasetError(
        f"there is no event type {name!r}: give {', '.join(TYPES)}, or custom: and up to "
        f"{CUSTOM_CHARACTER_COUNT_MAX} lower case letters, digits, '_', '.', '-'"
    )


def _table(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, dict):
        raise DatasetError(f"{name} is {table!r}, not a table of names and values")
    return table


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DatasetError(f"{where} is {value!r}, not a text")
    return value


def _known(given: Collection[str], known: Collection[str], where: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise DatasetError(f"{where}: there is no field {', '.join(unknown)}: map some of {', '.join(known)}")
