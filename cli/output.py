"""What commands print: tables for people, one JSON object for programs, errors in a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import grpc
import orjson
import typer
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]

_bars: set[Progress] = set()  # those on the screen, so that a stop can take them off from another thread

console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)  # progress and remarks: never mixed into results


def print_json(value: Mapping[str, Any]) -> None:
    """One object on one line."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A table; `right` lists the columns that hold numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold green")
    for number, name in enumerate(columns):
        table.add_column(
            name,
            justify="right" if number in right else "left",
            overflow="fold",
            no_wrap=number < len(columns) - 1,
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)


@contextmanager
def progress_bar(*counts: ProgressColumn) -> Iterator[Progress]:
    """A bar on standard error, gone when it is done; silent where nobody looks. `counts`: instead of "3/7"."""
    columns = (
        SpinnerColumn(style="green"),
        TextColumn("{task.description}"),
        BarColumn(complete_style="green", finished_style="green"),
        *(counts or (MofNCompleteColumn(),)),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        _bars.add(progress)
        try:
            yield progress
        finally:
            _bars.discard(progress)


def end_bars() -> None:
    """Takes every bar off the screen and gives the cursor back: for an end that doesn't wait for the thread that draws."""
    for progress in list(_bars):
        progress.stop()


def told(error: grpc.RpcError) -> str:
    """A failed call in words: whose fault, which reason, what to do."""
    status = rpc_status.from_call(error)
    if status is None:
        cause = (error.details() or "").rpartition(": ")[2]  # gRPC lists every address and layer before it
        return f"{error.code().name}: {cause} (is the system running? start it with: reco up)"
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return f"{info.reason}: {status.message}"
    return str(status.message)
