"""One suite over both kinds of lake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.lake.files import LakeFiles, open_lake
from ingest.schema import MIGRATIONS
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty lake of each kind."""
    return str(tmp_path / "lake") if request.param == "folder" else str(request.getfixturevalue("s3_url"))


@pytest.fixture
def lake(url: str, tmp_path: Path) -> LakeFiles:
    """An empty lake of each kind."""
    return open_lake(url, tmp_path)


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    """A pool on a migrated and empty database."""
    async with open_pool(postgres) as opened:
        await migrate(opened, MIGRATIONS)
        async with opened.connection() as connection:
            await connection.execute(
                "TRUNCATE items, users, item_changes, user_changes RESTART IDENTITY CASCADE"
            )
        yield opened
