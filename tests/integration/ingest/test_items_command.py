"""`reco items history`, through the command line's own functions."""

from __future__ import annotations

import asyncio
import json

import pytest
from reco.ingest.v1.item_pb2 import Item
from typer.testing import CliRunner, Result

from cli.main import app
from ingest.catalogue import upsert_items
from ingest.schema import MIGRATIONS
from runtime.errors import NotFoundError
from runtime.migrate import migrate
from runtime.postgres import open_pool


@pytest.fixture
def upserted(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item with two versions, in the system that the command looks at."""
    monkeypatch.setenv("RECO_POSTGRES_URL", postgres)
    monkeypatch.setenv("RECO_REDIS_URL", "redis://nobody")

    async def fill() -> None:
        async with open_pool(postgres) as pool:
            await migrate(pool, MIGRATIONS)
            async with pool.connection() as connection:
                await connection.execute("TRUNCATE items, item_changes")
            await upsert_items(pool, [Item(id="film", title="Old", tags=["x"])])
            await upsert_items(pool, [Item(id="film", title="New", tags=["x"])])

    asyncio.run(fill())


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["items", "history", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.usefixtures("upserted")
def test_history_shows_what_changed_newest_first() -> None:
    shown = json.loads(run("film", "--json").stdout)["versions"]

    assert [version["item"]["title"] for version in shown] == ["New", "Old"]
    assert shown[0]["changes"] == {"title": ["Old", "New"]}
    assert "title: Old -> New" in run("film", "--count", "1").stdout


@pytest.mark.usefixtures("upserted")
def test_history_of_an_item_that_never_was_says_where_older_ones_are() -> None:
    with pytest.raises(NotFoundError, match="no change of nobody within 30 days; older ones are in the lake"):
        run("nobody")
