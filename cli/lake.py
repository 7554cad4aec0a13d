"""`reco lake`: what was accepted, for good. Needs no running system, only the lake's folder or bucket."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from enum import StrEnum
from typing import Annotated

import duckdb
import pyarrow as pa
import typer
from reco.errors.v1 import error_reason_pb2

from cli.lake_output import megabytes, print_manifests, print_report, print_rows
from cli.output import Json, console, notes, print_json, print_table, progress_bar
from ingest.lake import restore as restoring
from ingest.lake.compact import Compacted, compact
from ingest.lake.files import LakeFiles, open_lake
from ingest.lake.listing import parts_of
from ingest.lake.manifest import numbers, read_manifest
from ingest.lake.names import KINDS, Range
from ingest.lake.query import make_views, read
from ingest.lake.summary import days
from ingest.lake.verify import repair as repair_lake
from ingest.lake.verify import verify
from runtime.errors import CallerError, StateError
from runtime.settings import load_settings

HOURS_MAX = 24 * 366 * 10  # of `compact`: all there are

app = typer.Typer(
    help="List, verify, query, restore and compact the lake (RECO_LAKE_URL).", no_args_is_help=True
)


class Kind(StrEnum):
    """What there is in the lake."""

    EVENTS = "events"
    ITEMS = "items"
    USERS = "users"


assert tuple(Kind) == KINDS

Url = Annotated[str, typer.Option("--lake", metavar="URL", help="Another lake than RECO_LAKE_URL's: a folder, or s3://bucket/path.")]  # fmt: skip
Kinds = Annotated[list[Kind] | None, typer.Option("--kind", help="Of these alone. Repeat it.")]
ManifestNumber = Annotated[
    int | None, typer.Option("--manifest", min=1, help="The state of this manifest, as `list --manifests` shows them.")
]  # fmt: skip


First = Annotated[str, typer.Option("--from", metavar="DATE", help="The first day, YYYY-MM-DD (UTC).")]
Last = Annotated[str, typer.Option("--to", metavar="DATE", help="The last day, included.")]


@app.command("list")
def list_days(
    kind: Kinds = None,
    manifests: Annotated[bool, typer.Option("--manifests", help="List the manifests instead.")] = False,
    lake: Url = "",
    json: Json = False,
) -> None:
    """List files, rows and bytes by kind and day (UTC).

    --json: {"days": [{"kind", "date", "files", "rows", "bytes"}]}, or with --manifests
    {"manifests": [{"number", "time", "files", "rows", "bytes"}]}
    """
    files = _open(lake)
    if manifests:
        print_manifests([read_manifest(files, number) for number in numbers(files)], json)
        return
    found = days(files, kind or KINDS)
    if json:
        print_json({"days": [asdict(day) for day in found]})
    elif found:
        rows = [(day.kind, day.date, str(day.files), f"{day.rows:,}", megabytes(day.bytes)) for day in found]
        print_table(("kind", "date", "files", "rows", "MB"), rows, right=(2, 3, 4))
    else:
        console.print("the lake is empty")


@app.command("verify")
def verify_lake(
    kind: Kinds = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move away first what a killed compaction has left.")
    ] = False,
    lake: Url = "",
    json: Json = False,
) -> None:
    """Read every file: checksums, order, gaps, events that stand there twice. Exits 1 when there is a fault.

    --json: {"files", "rows", "bytes", "repaired_files", "faults": [{"path", "message"}]}
    """
    files = _open(lake)
    repaired = repair_lake(files) if repair else 0
    with notes.status("reading the lake"):
        report = verify(files, kind or KINDS)
    print_report(report, {"repaired_files": repaired}, json)
    if report.faults:
        raise typer.Exit(1)


@app.command()
def query(
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="DuckDB's SQL over the views events, items, users.")
    ],
    first: First = "",
    last: Last = "",
    manifest: ManifestNumber = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    lake: Url = "",
    json: Json = False,
) -> None:
    """Ask the lake, e.g. reco lake query "SELECT type, count(*) FROM events WHERE date = '2026-11-25' GROUP BY ALL"

    With --from and --to the files of other days are not even opened. --json: {"columns": [..], "rows": [[..]]}
    """
    files = _open(lake)
    chosen = read_manifest(files, manifest) if manifest else None

    def work(connection: duckdb.DuckDBPyConnection, names: Mapping[str, Sequence[str]]) -> pa.Table:
        try:
            make_views(connection, names)
        except duckdb.Error as error:
            message = f"a file can't be read, see `reco lake verify`: {str(error).splitlines()[0]}"
            raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None
        found = connection.sql(sql)
        # None: a statement that answers nothing.
        return pa.table({}) if found is None else found.to_arrow_table()

    try:
        found = read(files, work, KINDS, chosen, Range(_date(first), _date(last)))
    except duckdb.Error as error:
        raise CallerError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, str(error).strip()) from None
    print_rows(found, as_csv, json)


@app.command()
def restore(
    target: Annotated[
        str, typer.Argument(help="A folder, or s3://bucket/path: empty, or of a restore that was stopped.")
    ],
    first: First = "",
    last: Last = "",
    kind: Kinds = None,
    manifest: ManifestNumber = None,
    lake: Url = "",
    json: Json = False,
) -> None:
    """Copy days, or the state of a manifest, into another place: a lake of its own, verified. Exits 1 when it has a fault.

    Read it with --lake, or with RECO_LAKE_URL. --json: {"files", "rows", "bytes", "copied_files", "faults": [..]}
    """
    files, to = _open(lake), _open(target)
    chosen = read_manifest(files, manifest) if manifest else None
    paths = restoring.chosen(files, kind or KINDS, Range(_date(first), _date(last)), chosen)
    if not paths:
        raise CallerError(
            error_reason_pb2.ERROR_REASON_UNSPECIFIED,
            "the lake has no file of these days; see `reco lake list`",
        )
    with progress_bar() as bar:
        task = bar.add_task("copying", total=len(paths))
        report = restoring.restore(files, to, paths, lambda: bar.advance(task))
    print_report(report, {"copied_files": len(paths)}, json)
    if report.faults:
        raise typer.Exit(1)


@app.command("compact")
def compact_lake(lake: Url = "", json: Json = False) -> None:
    """Put the small files of every finished hour together. A consumer does it by itself; both at once do no harm.

    --json: {"files_before", "files_after", "doubles", "damaged": [..]}. Exits 1 when a file can't be read.
    """
    files = _open(lake)
    done = Compacted()
    for kind in KINDS:
        for partition in sorted({part.partition for part in parts_of(files, kind)}):
            done += compact(files, partition, time.time(), lambda: None, kind, HOURS_MAX)
    if json:
        print_json(asdict(done))
    else:
        console.print(f"{done.files_before} files became {done.files_after}; {done.doubles} doubles removed")
        for path in done.damaged:
            console.print(
                f"{path} and its neighbours stay: one can't be read; see `reco lake verify`", markup=False
            )
    if done.damaged:
        raise typer.Exit(1)


def _open(url: str) -> LakeFiles:
    settings = load_settings(lake_url=url) if url else load_settings()
    return open_lake(settings.lake_url, settings.data_dir)


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise typer.BadParameter(f"{text} is no day: write YYYY-MM-DD") from None
