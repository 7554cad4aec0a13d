"""`reco dead-letters`: what a sink could not read or write."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from reco.errors.v1 import error_reason_pb2

from cli.output import Json, console, print_json, print_table
from cli.system import running_settings
from ingest.dead_letter_files import DeadLetter
from ingest.dead_letters import list_dead_letters, replay_dead_letters
from ingest.lake.files import open_lake
from runtime.errors import NotFoundError
from runtime.redis_client import connect
from runtime.settings import Settings

app = typer.Typer(help="List and replay what a sink could not take.", no_args_is_help=True)


@app.command("list")
def list_letters(
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=10_000, help="How many, oldest first.")
    ] = 100,
    json: Json = False,
) -> None:
    """List dead letters. --json: {"dead_letters": [{"id", "partition", "sink", "reason", "bytes"}]}"""
    letters = asyncio.run(_list(running_settings(), count))
    if json:
        shown = [
            {"id": x.id, "partition": x.partition, "sink": x.sink, "reason": x.reason, "bytes": len(x.data)}
            for x in letters
        ]
        print_json({"dead_letters": shown})
    elif letters:
        print_table(
            ("id", "sink", "reason", "bytes"),
            [(x.id, x.sink, x.reason, str(len(x.data))) for x in letters],
            right=(3,),
        )
    else:
        console.print("no dead letters")


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Which, as `list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json: Json = False,
) -> None:
    """Give dead letters to the sink that refused them once more. --json: {"replayed_count"}"""
    if bool(ids) == everything:
        raise typer.BadParameter("give the ids to replay, or --all")
    count = asyncio.run(_replay(running_settings(), None if everything else ids))
    if json:
        print_json({"replayed_count": count})
    else:
        console.print(f"{count} replayed")
    if ids and count < len(set(ids)):
        message = f"{len(set(ids)) - count} of the ids are of no dead letter; see `reco dead-letters list`"
        raise NotFoundError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message)


async def _list(settings: Settings, count: int) -> list[DeadLetter]:
    async with connect(settings.redis_url) as redis:
        files = open_lake(settings.lake_url, settings.data_dir)
        return await list_dead_letters(redis, files, settings.partition_count, count)


async def _replay(settings: Settings, ids: list[str] | None) -> int:
    async with connect(settings.redis_url) as redis:
        files = open_lake(settings.lake_url, settings.data_dir)
        return await replay_dead_letters(redis, files, settings.partition_count, ids)
