"""Stores killed under a stream of writes: what was acknowledged is in Postgres and in the lake, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pyarrow.dataset as ds
import pytest
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest

from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from tests.integration.ingest.harness import Load, info_of, kill, running
from tests.integration.ingest.samples import event, items

ACKNOWLEDGED_MIN = 40  # batches, before the next fault


async def test_stores_killed_under_load_lose_and_double_nothing(
    own_stores: tuple[EmbeddedValkey, EmbeddedPostgres], tmp_path: Path
) -> None:
    valkey, postgres = own_stores
    async with running(valkey.url, postgres.url, tmp_path) as ingest:
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
    async with running(valkey.url, postgres.url, tmp_path) as ingest:
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
