"""Rows of CSV, TSV, JSON Lines and Parquet files, one at a time, each with its number and what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from training.dataset import DatasetError

Row = dict[str, Any]
Numbered = tuple[int, Row, str | None]  # the row's number (the first is 1), the row, what is wrong with it

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
JSON_LINES = {".jsonl", ".ndjson"}
PARQUET = {".parquet", ".pq"}
FIELD_CHARACTER_COUNT_MAX = 131_072  # the csv module's own limit: a longer field is a missing quote


def open_table(path: Path, wanted: list[str]) -> Iterator[Numbered]:
    """The rows of a file by its ending. DatasetError: it cannot be read, or lacks a wanted column."""
    suffix = path.suffix.lower()
    try:
        if suffix in DELIMITERS:
            yield from _delimited(path, wanted, DELIMITERS[suffix])
        elif suffix in JSON_LINES:
            yield from _json_lines(path, wanted)
        elif suffix in PARQUET:
            yield from _parquet(path, wanted)
        else:
            known = ", ".join(sorted([*DELIMITERS, *JSON_LINES, *PARQUET]))
            raise DatasetError(f"{path} has the ending {suffix or '(none)'}; what can be read: {known}")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def _require(path: Path, wanted: list[str], found: list[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DatasetError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, found)) or 'none'}: "
            "say which of them is which with the column mapping"
        )


def _delimited(path: Path, wanted: list[str], delimiter: str) -> Iterator[Numbered]:
    # Tab-separated exports do not quote, and their titles hold lone quotes.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open("rb") as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
        # A NUL byte makes the csv module give up on the whole file; as any other character it spoils one row.
        lines = (line.replace("\0", "\ufffd") for line in text)
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
        header = next(reader, [])
        _require(path, wanted, header)
        number = 0
        while True:
            number += 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, {}, f"not readable as CSV ({error})"
                continue
            if cells:
                yield number, dict(zip(header, cells, strict=False)), _width_fault(header, cells)


def _width_fault(header: list[str], cells: list[str]) -> str | None:
    return None if len(cells) == len(header) else f"the row does not have {len(header)} columns"


def _json_lines(path: Path, wanted: list[str]) -> Iterator[Numbered]:
    # Columns may be missing from a row here: only if the first readable one has none of the wanted is the mapping wrong.
    checked = False
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row, fault = _json_row(line)
            if fault is None and not checked:
                checked = True
                if not set(wanted) & set(row):
                    _require(path, wanted, list(row))
            yield number, row, fault


def _json_row(line: bytes) -> tuple[Row, str | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}, "not a line of JSON"
    return (row, None) if isinstance(row, dict) else ({}, "not a JSON object")


def _parquet(path: Path, wanted: list[str]) -> Iterator[Numbered]:
    try:
        with pq.ParquetFile(path) as file:
            _require(path, wanted, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row, None
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path} is not a readable Parquet file: {str(error)[:200]}") from error
