"""What `reco lake` prints."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from cli.output import console, notes, print_json, print_table
from ingest.lake.manifest import Manifest
from ingest.lake.verify import Report

ROWS_SHOWN_MAX = 1_000  # of a query, as a table; --csv and --json print all
FAULTS_SHOWN_MAX = 20


def print_manifests(found: list[Manifest], json: bool) -> None:
    """A table, or an object with `manifests`."""
    shown: list[dict[str, Any]] = [
        {
            "number": each.number, "time": each.time, "files": len(each.files), "rows": each.rows,
            "bytes": sum(entry.bytes for entry in each.files),
        }
        for each in found
    ]  # fmt: skip
    if json:
        print_json({"manifests": shown})
    elif shown:
        rows = [(str(each["number"]), str(each["time"]), str(each["files"]), f"{each['rows']:,}", megabytes(each["bytes"])) for each in shown]  # fmt: skip
        print_table(("number", "time", "files", "rows", "MB"), rows, right=(0, 2, 3, 4))
    else:
        console.print("no manifests yet: a consumer makes one an hour")


def print_report(report: Report, more: Mapping[str, int], json: bool) -> None:
    """What was looked at and what is wrong; `more` are counts beside it."""
    if json:
        print_json({**asdict(report), **more})
        return
    for fault in report.faults[:FAULTS_SHOWN_MAX]:
        console.print(f"{fault.path}: {fault.message}", markup=False)
    if len(report.faults) > FAULTS_SHOWN_MAX:
        console.print(f"and {len(report.faults) - FAULTS_SHOWN_MAX} more; --json shows all")
    told = "".join(f", {count:,} {name.replace('_', ' ')}" for name, count in more.items() if count)
    console.print(
        f"{report.files:,} files, {report.rows:,} rows, {megabytes(report.bytes)} MB, {len(report.faults)} faults{told}"
    )


def print_rows(table: Any, as_csv: bool, json: bool) -> None:
    """The answer of a query: a table for people, or CSV, or JSON."""
    rows = [[_plain(value) for value in row] for row in _rows(table)]
    if json:
        print_json({"columns": table.column_names, "rows": rows})
    elif as_csv:
        csv.writer(sys.stdout).writerows([table.column_names, *rows])
    else:
        shown = [["" if value is None else str(value) for value in row] for row in rows[:ROWS_SHOWN_MAX]]
        print_table(table.column_names, shown)
        if len(rows) > ROWS_SHOWN_MAX:
            notes.print(f"the first {ROWS_SHOWN_MAX:,} of {len(rows):,} rows; --csv prints all")


def _rows(table: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _plain(value: Any) -> Any:
    """As JSON and CSV have it: numbers, texts, nothing; times are ISO 8601, UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)  # DuckDB's sums of whole numbers
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def megabytes(count: int) -> str:
    """With one digit."""
    return f"{count / 1e6:,.1f}"
