"""`reco load`: a data set in, through the ingest service, as any other caller would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.loading.checkpoint import Checkpoint
from cli.loading.mapping import EventMapping, from_file, from_options
from cli.loading.run import Job, load_into
from cli.output import Json, console, notes, print_json
from cli.system import running_settings
from cli.tables import MOVIELENS, ItemMap, ItemsFile, Source, pairs
from training import movielens
from training.columns import MOVIELENS_EVENTS, MOVIELENS_ITEMS
from training.dataset import DatasetError

REASONS_SHOWN_MAX = 10

Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="A column of the events: user, item, time, value, type, ... (docs/load.md). Repeat it.",
    ),
]
MappingFile = Annotated[
    Path | None,
    typer.Option("--mapping", metavar="FILE.toml", help="What columns and words mean: docs/load.md."),
]
FromStart = Annotated[bool, typer.Option("--from-start", help="Don't go on where a load was cut off.")]
WorkFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where the checkpoint and rejected rows go; the file's own folder unless given.",
    ),
]


def load(
    data: Source = MOVIELENS,
    mapping: Map = None,
    items: ItemsFile = None,
    item_mapping: ItemMap = None,
    mapping_file: MappingFile = None,
    from_start: FromStart = False,
    work_folder: WorkFolder = None,
    json: Json = False,
) -> None:
    """Load a file of any size into the running system; a load that was cut off goes on where it was.

    Loading the same file again changes nothing while the ids are remembered (6 hours). Items that the events name and
    nobody has described are created bare; those that are known stay as they are. Rows that were not taken are in
    DATA.rejected.jsonl.

    --json: {"items_created", "items_updated", "events_accepted", "events_duplicate", "events_rejected", "rows_set_aside",
    "reasons": {reason: rows}, "rejected_samples": [{"event_id", "message"}], "rejected_files": []}
    """
    job = job_of(data, mapping, items, item_mapping, mapping_file, from_start, work_folder)
    result = result_of(load_into(running_settings(), job), job)
    if json:
        print_json(result)
        return
    console.print(
        f"items: {result['items_created']:,} new, {result['items_updated']:,} replaced; events: "
        f"{result['events_accepted']:,} new, {result['events_duplicate']:,} known, {result['events_rejected']:,} refused"
    )
    _tell_rejected(result)


def job_of(
    source: str,
    mapping: list[str] | None = None,
    items: Path | None = None,
    item_mapping: list[str] | None = None,
    mapping_file: Path | None = None,
    from_start: bool = False,
    work_folder: Path | None = None,
) -> Job:
    """What the command line asks for. DatasetError says what is wrong with a mapping."""
    if source == MOVIELENS:
        folder = movielens.fetch()
        columns = {name: column for name, column in vars(MOVIELENS_EVENTS).items() if column}
        events = EventMapping(columns)
        return Job(
            folder / "ml-100k.inter",
            events,
            folder / "ml-100k.item",
            MOVIELENS_ITEMS,
            from_start,
            work_folder,
        )
    of_events, of_items = pairs(mapping), pairs(item_mapping)
    made = from_file(mapping_file, of_events, of_items) if mapping_file else from_options(of_events, of_items)
    if items and not items.is_file():
        raise DatasetError(f"{items} is no file")
    return Job(Path(source), made[0], items, made[1], from_start, work_folder)


def result_of(state: Checkpoint, job: Job) -> dict[str, Any]:
    """What --json prints."""
    both = (state.items, state.events)
    paths = [job.rejected(path) for path in (job.items, job.events) if path]
    reasons: dict[str, int] = {}
    for each in both:
        for reason, count in each.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return {
        "items_created": sum(each.created for each in both),
        "items_updated": sum(each.updated for each in both),
        "events_accepted": state.events.accepted,
        "events_duplicate": state.events.duplicate,
        "events_rejected": state.events.refused,
        "rows_set_aside": sum(each.set_aside for each in both),
        "reasons": reasons,
        "rejected_samples": state.events.samples,
        "rejected_files": [str(path) for path in paths if path.exists()],
    }


def _tell_rejected(result: dict[str, Any]) -> None:
    by_count = sorted(result["reasons"].items(), key=lambda each: -each[1])
    for reason, count in by_count[:REASONS_SHOWN_MAX]:
        notes.print(f"  {count:,} rows: {reason}", markup=False)
    for path in result["rejected_files"]:
        notes.print(f"  they are in {path}", markup=False)
