"""A running ingest: the server on a real socket, and consumers that the test starts and stops."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from redis.asyncio import Redis

from ingest.server import MIGRATIONS, add_service, make_service
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool
from runtime.rpc import start_server
from runtime.settings import Settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from tests.integration.ingest.harness import PARTITIONS, Ingest


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    """A pool on a migrated and empty database."""
    async with open_pool(postgres) as opened:
        await migrate(opened, MIGRATIONS)
        async with opened.connection() as connection:
            await connection.execute(
                "TRUNCATE items, users, events, models, item_changes, user_changes RESTART IDENTITY CASCADE"
            )
        yield opened


@pytest.fixture
async def ingest(
    redis: Redis, pool: Pool, valkey: str, postgres: str, tmp_path: Path
) -> AsyncIterator[Ingest]:
    """The ingest server, and a client."""
    settings = Settings(
        data_dir=tmp_path, redis_url=valkey, postgres_url=postgres, partition_count=PARTITIONS
    )
    server, _, port = await start_server("127.0.0.1:0", add_service(make_service(settings, redis, pool)))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        here = settings.model_copy(update={"ingest_port": port})
        yield Ingest(IngestServiceStub(channel), redis, pool, here)
    await server.stop(None)


@pytest.fixture
def own_stores() -> Iterator[tuple[EmbeddedValkey, EmbeddedPostgres]]:
    """Stores that this test may kill."""
    folder = Path(tempfile.mkdtemp(prefix="reco-test-"))
    valkey, postgres = EmbeddedValkey(folder), EmbeddedPostgres(folder)
    valkey.start()
    postgres.start()
    yield valkey, postgres
    valkey.stop()
    postgres.stop()
    shutil.rmtree(folder)
