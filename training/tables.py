"""Rows of CSV, TSV, JSON Lines and Parquet files, one at a time, each with its number and what is wrong with it.

A file of any size is read in little memory, and from any place that an earlier reading came to.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow.parquet as pq

from training.dataset import DatasetError

Row = dict[str, Any]

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
JSON_LINES = {".jsonl", ".ndjson"}
PARQUET = {".parquet", ".pq"}
FIELD_CHARACTER_COUNT_MAX = 131_072  # the csv module's own limit: a longer field is a missing quote
LINE_BYTES_MAX = (
    4 << 20
)  # a longer line is no row of ours; without a bound, a file without lines would fill the memory
PARQUET_ROWS = 4_096  # taken at a time
PARQUET_BUFFER_BYTES = (
    1 << 20
)  # of a column; without it a whole row group is held, which may be the whole file
RAW = "line"  # of what could not be parsed, the field that holds it


class Place(NamedTuple):
    """Where reading goes on: how many rows are behind, and the byte of the next one (Parquet counts rows alone)."""

    row: int = 0
    byte: int = 0


START = Place()


class Found(NamedTuple):
    """One row: its number (the first is 1), its cells, what is wrong with it, and the place behind it."""

    number: int
    row: Row
    fault: str | None
    end: Place


def open_table(path: Path, wanted: list[str], start: Place = START) -> Iterator[Found]:
    """The rows of a file by its ending. DatasetError: it cannot be read, or lacks a wanted column."""
    suffix = path.suffix.lower()
    try:
        if suffix in DELIMITERS:
            yield from _delimited(path, wanted, DELIMITERS[suffix], start)
        elif suffix in JSON_LINES:
            yield from _json_lines(path, wanted, start)
        elif suffix in PARQUET:
            yield from _parquet(path, wanted, start)
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


class _Lines:
    """The lines of a file as text, and the byte behind the last one that was given out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.byte = file.tell()
        self._given: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LINE_BYTES_MAX)
        if not line:
            raise StopIteration
        self.byte += len(line)
        # A NUL byte makes the csv module give up on the whole file; as any other character it spoils one row.
        text = line.decode("utf-8-sig", errors="replace").replace("\0", "\ufffd")
        self._given.append(text)
        return text

    def take(self) -> str:
        """What was given out since it was last asked: the lines of one row, as the csv module bounds their length."""
        text = "".join(self._given)
        self._given.clear()
        return text


def _delimited(path: Path, wanted: list[str], delimiter: str, start: Place) -> Iterator[Found]:
    # Tab-separated exports do not quote, and their titles hold lone quotes.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open("rb") as file:
        header = next(csv.reader(_Lines(file), delimiter=delimiter, quoting=quoting), [])
        _require(path, wanted, header)
        if start.byte:
            file.seek(start.byte)
        lines = _Lines(
            file
        )  # the reader asks for a line only when it needs one, so the byte is the row's end
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
        number = start.row
        while True:
            number += 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raw = {RAW: lines.take()}
                yield Found(number, raw, f"not readable as CSV ({error})", Place(number, lines.byte))
                continue
            line = lines.take()
            if cells:
                fault = _width_fault(header, cells)
                row = {RAW: line} if fault else dict(zip(header, cells, strict=True))
                yield Found(number, row, fault, Place(number, lines.byte))


def _width_fault(header: list[str], cells: list[str]) -> str | None:
    return None if len(cells) == len(header) else f"the row does not have {len(header)} columns"


def _json_lines(path: Path, wanted: list[str], start: Place) -> Iterator[Found]:
    # Columns may be missing from a row here: only if the first readable one has none of the wanted is the mapping wrong.
    checked = start.row > 0
    with path.open("rb") as file:
        file.seek(start.byte)
        byte = start.byte
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), start.row + 1):
            byte += len(line)
            if not line.strip():
                continue
            row, fault = _json_row(line)
            if fault is None and not checked:
                checked = True
                if not set(wanted) & set(row):
                    _require(path, wanted, list(row))
            yield Found(number, row, fault, Place(number, byte))


def _json_row(line: bytes) -> tuple[Row, str | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {RAW: line.decode(errors="replace").rstrip()}, "not a line of JSON"
    return (row, None) if isinstance(row, dict) else ({RAW: row}, "not a JSON object")


def _parquet(path: Path, wanted: list[str], start: Place) -> Iterator[Found]:
    try:
        with pq.ParquetFile(path, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False) as file:
            _require(path, wanted, file.schema_arrow.names)
            groups, number = _groups_from(file, start.row)
            for batch in file.iter_batches(PARQUET_ROWS, groups, list(dict.fromkeys(wanted))):
                for row in batch.to_pylist():
                    number += 1
                    if number > start.row:
                        yield Found(number, row, None, Place(number))
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path} is not a readable Parquet file: {str(error)[:200]}") from error


def _groups_from(file: Any, row: int) -> tuple[list[int], int]:
    """The row groups that hold what comes behind `row`, and how many rows stand before them."""
    before = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if before + count > row:
            return list(range(group, file.num_row_groups)), before
        before += count
    return [], before
