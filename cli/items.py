"""`reco items`: what became of an item."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
import typer
from reco.errors.v1 import error_reason_pb2

from cli.output import Json, print_json, print_table
from cli.system import running_settings
from ingest import limits
from ingest.change_history import Version, item_history
from runtime.errors import NotFoundError
from runtime.postgres import open_pool

app = typer.Typer(help="Look at items.", no_args_is_help=True)


@app.callback()
def items() -> None:
    """Look at items."""


@app.command()
def history(
    item: Annotated[str, typer.Argument(metavar="ID", help="The item's id.")],
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=1_000, help="How many, newest first.")
    ] = 20,
    json: Json = False,
) -> None:
    """Show how an item changed, newest first. What is older than Postgres keeps is in the lake: `reco lake query`.

    --json: {"versions": [{"change_time", "item", "changes": {column: [before, after]}}]}
    """
    versions = asyncio.run(_history(running_settings().postgres_url, item, count))
    if not versions:
        message = f"PostgreSQL knows of no change of {item} within {limits.CHANGES_KEEP_DAYS} days; older ones are in the lake"
        raise NotFoundError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message)
    if json:
        print_json({"versions": [_object(version) for version in versions]})
    else:
        rows = [(f"{each.change_time:%Y-%m-%d %H:%M:%S}", _told(each)) for each in versions]
        print_table(("time (UTC)", "change"), rows)


async def _history(url: str, item: str, count: int) -> list[Version]:
    async with open_pool(url) as pool:
        return await item_history(pool, item, count)


def _told(version: Version) -> str:
    if version.before is None:
        return f"the oldest that is known: {_text(version.item)}"
    return "; ".join(
        f"{name}: {_text(before)} -> {_text(after)}" for name, (before, after) in version.changes.items()
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _object(version: Version) -> dict[str, Any]:
    return {"change_time": version.change_time, "item": version.item, "changes": version.changes}
