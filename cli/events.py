"""`reco events`: what comes in, as it comes in."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from reco.ingest.v1 import event_pb2

from cli.output import Json, console, print_json
from cli.system import running_settings
from ingest.tail import follow, last_events
from runtime.redis_client import connect
from runtime.settings import Settings

app = typer.Typer(help="Look at events.", no_args_is_help=True)


@app.callback()
def events() -> None:
    """Look at events."""


@app.command()
def tail(
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, max=10_000, help="How many of the newest to begin with.")
    ] = 10,
    following: Annotated[
        bool, typer.Option("--follow/--no-follow", "-f", help="Go on as events come in; Ctrl-C ends it.")
    ] = True,
    json: Json = False,
) -> None:
    """Show the newest events in the stream, and go on with those that come in.

    --json: one object a line: {"event_id", "user_id", "session_id", "item_id", "item_key", "type", "custom_type", "value",
    "event_time", "accept_time", "surface", "attribution_token"}
    """
    asyncio.run(_tail(running_settings(), count, following, json))


async def _tail(settings: Settings, count: int, following: bool, json: bool) -> None:
    async with connect(settings.redis_url) as redis:
        newest, positions = await last_events(redis, settings.partition_count, count)
        for event in newest:
            _show(event, json)
        if following:
            async for event in follow(redis, positions):
                _show(event, json)


def _show(accepted: event_pb2.AcceptedEvent, json: bool) -> None:
    shown = as_dict(accepted)
    if json:
        print_json(shown)
        return
    who = shown["user_id"] or f"session {shown['session_id']}"
    value = "" if shown["value"] is None else f" {shown['value']:g}"
    what = shown["custom_type"] or shown["type"]
    console.print(f"{shown['accept_time']}  {who}  {what}{value}  {shown['item_id']}", markup=False)


def as_dict(accepted: event_pb2.AcceptedEvent) -> dict[str, Any]:
    """The event as --json prints it; times in RFC 3339."""
    event = accepted.event
    return {
        "event_id": event.id,
        "user_id": event.user_id,
        "session_id": event.session_id,
        "item_id": event.item_id,
        "item_key": accepted.item_key,
        "type": event_pb2.EventType.Name(event.type).removeprefix("EVENT_TYPE_").lower(),
        "custom_type": event.custom_type,
        "value": event.value if event.HasField("value") else None,
        "event_time": event.event_time.ToJsonString(),
        "accept_time": accepted.accept_time.ToJsonString(),
        "surface": event.surface,
        "attribution_token": event.attribution_token,
    }
