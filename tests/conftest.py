"""What tests share: the real stores, started once a session, and real data."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from redis.asyncio import Redis

from runtime.redis_client import connect
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from tests.seaweed import BUCKET, Seaweed, installed

# The same examples in every run, and none fails for being slow on a busy machine.
settings.register_profile("reco", derandomize=True, deadline=None, max_examples=150)
settings.load_profile("reco")


@pytest.fixture(scope="session")
def stores_dir() -> Iterator[Path]:
    """A data folder for the session's stores. Not pytest's own: the account of PostgreSQL may not enter that."""
    folder = Path(tempfile.mkdtemp(prefix="reco-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def valkey(stores_dir: Path) -> Iterator[str]:
    """The URL of a Valkey for the session."""
    server = EmbeddedValkey(stores_dir)
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(stores_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL for the session."""
    server = EmbeddedPostgres(stores_dir)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of an empty database for the module."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield postgres_server.database_url(name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's account may enter (pytest's own it may not)."""
    made = Path(tempfile.mkdtemp(prefix="reco-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def redis(valkey: str) -> AsyncIterator[Redis]:
    """A client of an empty Valkey, without retries of its own."""
    async with connect(valkey, retries_max=0) as client:
        await client.flushall()
        yield client


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """An S3-compatible server for the session."""
    with started_seaweed() as server:
        yield server


@pytest.fixture
def mortal_seaweed() -> Iterator[Seaweed]:
    """One that the test may kill."""
    with started_seaweed() as server:
        yield server


@contextmanager
def started_seaweed() -> Iterator[Seaweed]:
    """A server with its data in a folder of its own."""
    program = installed()
    if program is None:
        pytest.skip("no S3-compatible server: `make unit` installs it (the extra `s3`)")
    folder = Path(tempfile.mkdtemp(prefix="reco-test-"))  # a short path: the server makes sockets in it
    server = Seaweed(program, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def s3_url(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty lake in the server, which the environment knows."""
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def movielens_dir() -> Path:
    """The folder of MovieLens-100k, fetched once a machine. Fails with the reason when it can't be fetched."""
    from training import movielens

    return movielens.fetch()
