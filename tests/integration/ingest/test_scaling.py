"""Real consumer processes that come, go, hang and wake under events: units move, and each event counts once in each sink."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pyarrow.dataset as ds
import pytest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub

from ingest.assignment import units_of
from ingest.consumer_main import METRICS_PORT_OFFSET
from ingest.lag import lags
from ingest.schema import MIGRATIONS
from ingest.server import add_service, make_service
from ingest.stream import lease_key
from profiles.codec import decode
from profiles.store import read_profile
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.rpc import start_server
from runtime.settings import Settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from tests.integration.ingest.harness import Ingest, Load, free_port, kill
from tests.integration.ingest.samples import items

PARTITIONS = 4
UNITS = units_of(PARTITIONS)
MOVED_WAIT_S_MAX = 60.0  # the bounds of ingest/limits.py add up to 20 s; the rest is for a busy machine
STOP_WAIT_S_MAX = 30.0
REPOSITORY = Path(__file__).parents[3]

Processes = list[subprocess.Popen[bytes]]


@asynccontextmanager
async def door(valkey: EmbeddedValkey, postgres: EmbeddedPostgres, folder: Path) -> AsyncIterator[Ingest]:
    """Ingest without consumers."""
    settings = Settings(
        data_dir=folder, redis_url=valkey.url, postgres_url=postgres.url, partition_count=PARTITIONS
    )
    async with connect(valkey.url) as redis, open_pool(postgres.url) as pool:
        await migrate(pool, MIGRATIONS)
        server, _, port = await start_server("127.0.0.1:0", add_service(make_service(settings, redis, pool)))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Ingest(IngestServiceStub(channel), redis, pool, settings)
        await server.stop(None)


@pytest.fixture
def started() -> Iterator[Processes]:
    """Consumer processes, ended with the test."""
    processes: Processes = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(ingest: Ingest, started: Processes) -> int:
    """Starts one more consumer; its process id."""
    settings = {
        "REDIS_URL": ingest.settings.redis_url, "POSTGRES_URL": ingest.settings.postgres_url,
        "DATA_DIR": str(ingest.settings.data_dir), "PARTITION_COUNT": str(PARTITIONS),
        "METRICS_PORT_BASE": str(free_port() - METRICS_PORT_OFFSET), "LOG_LEVEL": "error",
    }  # fmt: skip
    path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'gen'}"
    environment = os.environ | {f"RECO_{k}": v for k, v in settings.items()} | {"PYTHONPATH": path}
    process = subprocess.Popen([sys.executable, "-m", "ingest.consumer_main"], env=environment)
    started.append(process)
    return process.pid


async def held(ingest: Ingest) -> Counter[int]:
    """How many leases each process has, by its id."""
    keys = [lease_key(*unit) for unit in UNITS]
    holders = [value for value in await ingest.redis.mget(keys) if value]
    return Counter(int(holder.decode().split("-")[-2]) for holder in holders)


async def shared(ingest: Ingest, expected: dict[int, int]) -> None:
    """Returns when each process has so many leases."""
    found: Counter[int] = Counter()
    try:
        async with asyncio.timeout(MOVED_WAIT_S_MAX):
            while found != expected:
                await asyncio.sleep(0.05)
                found = await held(ingest)
    except TimeoutError:
        pytest.fail(f"leases by process: {dict(found)}, expected {expected}")


async def caught_up(ingest: Ingest) -> None:
    async with asyncio.timeout(MOVED_WAIT_S_MAX):
        while any(n for by in (await lags(ingest.redis, PARTITIONS)).values() for n in by.values()):  # noqa: ASYNC110 -- Redis knows
            await asyncio.sleep(0.05)


async def in_every_sink(ingest: Ingest) -> dict[str, list[str] | int]:
    """Event ids as the record and the lake have them, and what all profiles count."""
    async with ingest.pool.connection() as connection:
        rows = await (await connection.execute("SELECT event_id, subject FROM events ORDER BY 1")).fetchall()
    lake = ds.dataset(ingest.settings.data_dir / "lake" / "kind=events", partitioning="hive").to_table(
        columns=["event_id"]
    )
    values = [await read_profile(ingest.redis, subject) for subject in {row[1] for row in rows}]
    return {
        "postgres": [row[0] for row in rows],
        "lake": sorted(lake["event_id"].to_pylist()),
        "profile": sum(decode(value).event_count for value in values if value),
    }


async def test_units_move_between_processes_that_join_leave_and_hang_and_each_event_counts_once(
    own_stores: tuple[EmbeddedValkey, EmbeddedPostgres], tmp_path: Path, started: Processes
) -> None:
    valkey, postgres = own_stores
    async with door(valkey, postgres, tmp_path) as ingest:
        await ingest.stub.UpsertItems(items())
        load, stop = Load(ingest), asyncio.Event()
        writing = asyncio.create_task(load.run(stop))

        first = start(ingest, started)
        await shared(ingest, {first: 12})
        second = start(ingest, started)
        await shared(ingest, {first: 6, second: 6})
        third = start(ingest, started)
        await shared(ingest, {first: 4, second: 4, third: 4})

        kill(valkey)
        await load.refused()
        valkey.start()
        await load.more(100)
        await shared(ingest, {first: 4, second: 4, third: 4})

        os.kill(first, signal.SIGTERM)
        assert await asyncio.to_thread(started[0].wait, STOP_WAIT_S_MAX) == 0
        await shared(ingest, {second: 6, third: 6})

        os.kill(second, signal.SIGSTOP)
        await shared(ingest, {third: 12})
        await load.more(100)  # what the one that hangs had read is written by another
        os.kill(second, signal.SIGCONT)
        await shared(ingest, {second: 6, third: 6})

        stop.set()
        await writing
        await caught_up(ingest)
        found = await in_every_sink(ingest)

    acknowledged = sorted(load.acknowledged)
    assert found["postgres"] == acknowledged
    assert found["lake"] == acknowledged
    assert found["profile"] == len(acknowledged)
