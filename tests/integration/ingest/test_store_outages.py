"""Stores killed under a stream of writes: what was acknowledged is in Postgres and in the lake, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pyarrow.dataset as ds
import pytest
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub

from ingest.consumer_main import run_all
from ingest.schema import MIGRATIONS
from ingest.server import add_service, make_service
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.rpc import start_server
from runtime.settings import Settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from tests.integration.ingest.harness import PARTITIONS, Ingest, Load, info_of, kill
from tests.integration.ingest.samples import event, items

ACKNOWLEDGED_MIN = 40  # batches, before the next fault


@asynccontextmanager
async def running(valkey: EmbeddedValkey, postgres: EmbeddedPostgres, folder: Path) -> AsyncIterator[Ingest]:
    """Ingest and consumers as the processes put them together."""
    settings = Settings(
        data_dir=folder, redis_url=valkey.url, postgres_url=postgres.url, partition_count=PARTITIONS
    )
    stop = asyncio.Event()
    async with (
        connect(valkey.url) as redis,
        connect(valkey.url, retries_max=0) as consumer_redis,
        open_pool(postgres.url) as pool,
        open_pool(postgres.url) as consumer_pool,
    ):
        await migrate(pool, MIGRATIONS)
        server, _, port = await start_server("127.0.0.1:0", add_service(make_service(settings, redis, pool)))
        consumers = asyncio.create_task(run_all(settings, consumer_redis, consumer_pool, stop))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Ingest(IngestServiceStub(channel), redis, pool, settings)
        stop.set()
        await consumers
        await server.stop(None)


async def test_stores_killed_under_load_lose_and_double_nothing(
    own_stores: tuple[EmbeddedValkey, EmbeddedPostgres], tmp_path: Path
) -> None:
    valkey, postgres = own_stores
    async with running(valkey, postgres, tmp_path) as ingest:
        await ingest.stub.UpsertItems(items())
        load, stop = Load(ingest), asyncio.Event()
        task = asyncio.create_task(load.run(stop))
        for store in (valkey, postgres, valkey):
            await load.more(ACKNOWLEDGED_MIN * 5)
            kill(store)
            if store is valkey:
                await load.refused()  # a caller has met the outage; Postgres' is met by its sink alone
            store.start()  # from this thread, which lives as long as the store
        await load.more(ACKNOWLEDGED_MIN * 5)
        stop.set()
        await task
        await ingest.caught_up()

        async with ingest.pool.connection() as connection:
            rows = await (await connection.execute("SELECT event_id FROM events ORDER BY 1")).fetchall()
        lake = ds.dataset(tmp_path / "lake" / "kind=events", partitioning="hive").to_table(
            columns=["event_id"]
        )

    assert {error.code() for error in load.refusals} == {grpc.StatusCode.UNAVAILABLE}
    acknowledged = sorted(load.acknowledged)
    assert sorted(row[0] for row in rows) == acknowledged
    assert sorted(lake["event_id"].to_pylist()) == acknowledged


async def test_a_store_that_is_down_answers_unavailable_with_its_name_until_it_is_back(
    own_stores: tuple[EmbeddedValkey, EmbeddedPostgres], tmp_path: Path
) -> None:
    valkey, postgres = own_stores
    async with running(valkey, postgres, tmp_path) as ingest:
        await ingest.stub.UpsertItems(items())
        for store, name, call in (
            (valkey, "redis", lambda: ingest.stub.WriteEvents(WriteEventsRequest(events=[event()]))),
            (postgres, "postgres", lambda: ingest.stub.UpsertItems(items())),
        ):
            store.stop()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call()
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
            info = info_of(raised.value)
            assert (info.reason, info.metadata["store"]) == ("STORE_UNAVAILABLE", name)
            assert "Traceback" not in str(raised.value.details())
            store.start()
            await call()
