"""`reco dump` and `reco restore`: everything into a folder, and into an empty system (docs/load.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import Json, console, notes, print_json, progress_bar
from cli.system import running_settings
from ingest.dump.manifest import Manifest
from ingest.dump.restore import restore as restore_from
from ingest.dump.write import Tell
from ingest.dump.write import dump as dump_to
from ingest.schema import MIGRATIONS
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.settings import Settings

Folder = Annotated[Path, typer.Argument(metavar="FOLDER")]


def dump(folder: Folder, json: Json = False) -> None:
    """Write everything that the running system knows to a new folder: catalogue, users, events, the lake, models' records.

    All that was acknowledged before it began is in it. Bundles of models are not: copy RECO_MODELS_URL, or train anew.

    --json: {"folder", "counts": {table: rows}, "lake_files", "bytes"}
    """
    _finish(asyncio.run(_dump(running_settings(), folder)), folder, "written", json)


def restore(folder: Folder, json: Json = False) -> None:
    """Fill an empty system from a dump. Run it again if it was stopped.

    Users' profiles are not in a dump: make them anew afterwards, with `reco rebuild profiles`.

    --json: {"folder", "counts": {table: rows}, "lake_files", "bytes"}
    """
    _finish(asyncio.run(_restore(running_settings(), folder)), folder, "restored", json)
    notes.print("now make the users' profiles: reco rebuild profiles")


async def _dump(settings: Settings, folder: Path) -> Manifest:
    with progress_bar() as bar:
        async with connect(settings.redis_url) as redis:
            return await dump_to(settings, redis, folder, _teller(bar))


async def _restore(settings: Settings, folder: Path) -> Manifest:
    with progress_bar() as bar:
        async with connect(settings.redis_url) as redis, open_pool(settings.postgres_url) as pool:
            await migrate(pool, MIGRATIONS)
            return await restore_from(settings, redis, pool, folder, _teller(bar))


def _teller(bar: Any) -> Tell:
    tasks: dict[str, Any] = {}

    def tell(name: str, count: int) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=None)
        bar.update(tasks[name], completed=count)

    return tell


def _finish(manifest: Manifest, folder: Path, verb: str, json: bool) -> None:
    result = {
        "folder": str(folder),
        "counts": manifest.counts,
        "lake_files": sum(not file.table for file in manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
    }
    if json:
        print_json(result)
        return
    counts = manifest.counts
    console.print(
        f"{verb}: {counts['items']:,} items, {counts['users']:,} users, {counts['events']:,} events, "
        f"{result['lake_files']:,} files of the lake"
    )
