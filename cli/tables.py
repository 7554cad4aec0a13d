"""The data sets that commands take: MovieLens by name, or any table with a mapping of its columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.output import notes
from training import movielens
from training.columns import (
    MOVIELENS_EVENTS,
    MOVIELENS_ITEMS,
    BadRows,
    EventColumns,
    ItemColumns,
    MappedEvent,
    MappedItem,
    read_events,
    read_items,
)
from training.dataset import DatasetError

MOVIELENS = "movielens"
BAD_ROWS_SHOWN_MAX = 5

Source = Annotated[
    str,
    typer.Argument(metavar="DATA", help="`movielens`, or a file: CSV, TSV, JSON Lines (.jsonl) or Parquet."),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="A column of the events: user, item, time, value, type. Repeat it.",
    ),
]
ItemsFile = Annotated[Path | None, typer.Option("--items", help="A file of the items, in the same formats.")]
ItemMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map-item",
        metavar="FIELD=COLUMN",
        help="A column of the items: item, title, categories, released, separator.",
    ),
]


@dataclass(frozen=True)
class Loaded:
    """A data set that was read, and what could not be."""

    events: list[MappedEvent]
    items: list[MappedItem]
    bad: BadRows


def read_source(
    source: str, mapping: list[str] | None, items: Path | None, item_mapping: list[str] | None
) -> Loaded:
    """Reads the data set, and tells on standard error what was set aside. DatasetError when nothing can be read."""
    if source == MOVIELENS:
        folder = movielens.fetch()
        events_path, event_columns = folder / "ml-100k.inter", MOVIELENS_EVENTS
        items, item_columns = folder / "ml-100k.item", MOVIELENS_ITEMS
    else:
        events_path, event_columns = Path(source), EventColumns.of(pairs(mapping))
        item_columns = ItemColumns(**_known(pairs(item_mapping), ItemColumns))
    events, bad = read_events(events_path, event_columns)
    described, bad_items = read_items(items, item_columns) if items else ([], BadRows())
    for path, found in ((events_path, bad), (items, bad_items)):
        _tell(path, found)
    if not events:
        raise DatasetError(f"{events_path} holds no event that can be read; see --map")
    return Loaded(events, described, bad)


def pairs(mapping: list[str] | None) -> dict[str, str]:
    """`["user=user_id", ...]` as a dict; DatasetError when an entry has no "="."""
    entries = [entry.partition("=") for entry in mapping or []]
    wrong = [left for left, sign, right in entries if not (sign and left and right)]
    if wrong:
        raise DatasetError(f"{wrong[0]!r} is not FIELD=COLUMN, such as user=user_id")
    return {left: right for left, _, right in entries}


def _known(mapping: dict[str, str], columns: type[ItemColumns]) -> dict[str, str]:
    unknown = sorted(set(mapping) - set(columns.__dataclass_fields__))
    if unknown:
        raise DatasetError(
            f"there is no field {', '.join(unknown)}: map some of {', '.join(columns.__dataclass_fields__)}"
        )
    return mapping


def _tell(path: Path | None, bad: BadRows) -> None:
    if not bad.count:
        return
    notes.print(f"{path}: {bad.count:,} rows set aside")
    for number, reason in bad.sample[:BAD_ROWS_SHOWN_MAX]:
        notes.print(f"  row {number}: {reason}", markup=False)
