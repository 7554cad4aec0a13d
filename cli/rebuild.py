"""`reco rebuild`: a store that was lost, made anew from the others (docs/runbook.md)."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import typer
from reco.errors.v1 import error_reason_pb2

from cli.output import Json, console, notes, print_json, progress_bar
from cli.system import stores_of
from ingest.rebuild.postgres import Restored, rebuild_postgres
from ingest.rebuild.profiles import Rebuilt, rebuild_profiles
from ingest.schema import MIGRATIONS
from profiles.limits import TRENDING_ITEMS_MAX
from runtime.clock import SystemClock
from runtime.errors import StateError
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.settings import Settings

app = typer.Typer(help="Make a store anew that was lost, from the others.", no_args_is_help=True)


@app.command()
def profiles(json: Json = False) -> None:
    """Redis was lost: make profiles, trending counts and the marks of events anew, from lake, Postgres and stream.

    Events are accepted meanwhile, and counted when it is done. Run it again if it was stopped.

    --json: {"profiles", "events", "events_left_out", "marks", "trending_items", "streams_raised"}
    """
    with stores_of() as settings:
        result = asyncio.run(_profiles(settings))
    if json:
        print_json(result)
    else:
        console.print(
            f"{result['profiles']:,} profiles of {result['events']:,} events; {result['marks']:,} marks"
        )


@app.command()
def postgres(json: Json = False) -> None:
    """PostgreSQL was lost: fill an empty database with items (and their keys), users and events, from the lake.

    Stop ingest before, and start it afterwards: items that are upserted meanwhile would take keys of others. Models whose
    bundles are on the disk are registered again, and the newest is activated. Run it again if it was stopped.

    --json: {"items", "items_bare", "users", "events", "days", "differ", "models"}
    """
    with stores_of() as settings:
        result = asyncio.run(_postgres(settings))
    if json:
        print_json(result)
        _refuse_differing(result["differ"])
        return
    console.print(
        f"{result['items']:,} items, {result['users']:,} users, {result['events']:,} events of {result['days']:,} days, "
        f"{result['models']:,} models"
    )
    if result["items_bare"]:
        notes.print(f"{result['items_bare']:,} items are known by their events alone; upsert them again")
    _refuse_differing(result["differ"])


def _refuse_differing(days: list[str]) -> None:
    if days:
        message = (
            f"PostgreSQL and the lake differ on {', '.join(days)}: see `reco lake verify`, and run it again"
        )
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, {"store": "postgres"})


async def _postgres(settings: Settings) -> dict[str, Any]:
    from training.publish import register_found  # takes seconds to import

    with progress_bar() as bar:
        task = bar.add_task("rows", total=None)

        def tell(done: Restored) -> None:
            bar.update(task, completed=done.items + done.users + done.events)

        async with connect(settings.redis_url) as redis, open_pool(settings.postgres_url) as pool:
            await migrate(pool, MIGRATIONS)
            done = await rebuild_postgres(settings, redis, pool, SystemClock(), tell)
            models = await register_found(settings, pool)
    return asdict(done) | {"models": models}


async def _profiles(settings: Settings) -> dict[str, Any]:
    with progress_bar() as bar:
        task = bar.add_task("profiles", total=None)

        def tell(done: Rebuilt) -> None:
            bar.update(task, completed=done.profiles)

        async with connect(settings.redis_url) as redis, open_pool(settings.postgres_url) as pool:
            await migrate(pool, MIGRATIONS)
            done = await rebuild_profiles(settings, redis, pool, SystemClock(), tell)
    return {
        "profiles": done.profiles, "events": done.events, "events_left_out": done.left_out, "marks": done.marks,
        "trending_items": sum(min(len(week), TRENDING_ITEMS_MAX) for week in done.weeks.values()), "streams_raised": done.raised,
    }  # fmt: skip
