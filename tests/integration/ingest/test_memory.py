"""A sink that is down for long fills Redis: callers are told to wait before that stops the other sinks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from reco.ingest.v1.event_pb2 import EventContext
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from redis.asyncio import Redis
from structlog.testing import capture_logs

from bench.valkeys import Valkey, started
from ingest import limits
from ingest.consumer import run
from ingest.lag import lags
from ingest.lease import Lease
from ingest.memory import Memory
from ingest.server import add_service, make_service
from ingest.sinks.profile import ProfileSink
from ingest.stream import StreamReader
from runtime import metrics
from runtime.clock import SystemClock
from runtime.errors import OverloadError
from runtime.postgres import Pool
from runtime.redis_client import connect
from runtime.rpc import start_server
from runtime.settings import Settings
from tests.integration.ingest.harness import PARTITIONS, Ingest, info_of
from tests.integration.ingest.samples import event, items

WAIT_S_MAX = 60.0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Valkey]:
    """A store that is soon full."""
    server = Valkey(tmp_path, maxmemory="12mb", maxmemory_policy="noeviction")
    with started(server):
        yield server


@pytest.fixture
async def watched(
    small: Valkey, pool: Pool, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ingest]:
    """Ingest on that store, as its process puts it together."""
    monkeypatch.setattr(limits, "MEMORY_LOOK_S", 0.01)
    monkeypatch.setattr(limits, "TRIM_EVERY_S", 0.1)
    settings = Settings(
        data_dir=tmp_path, redis_url=small.url, postgres_url=postgres, partition_count=PARTITIONS
    )
    stop = asyncio.Event()
    async with connect(small.url, retries_max=0) as redis:
        memory = Memory(redis)
        watching = asyncio.create_task(memory.watch(stop))
        service = add_service(make_service(settings, redis, pool, memory))
        server, _, port = await start_server("127.0.0.1:0", service)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Ingest(IngestServiceStub(channel), redis, pool, settings)
        await server.stop(None)
        stop.set()
        await watching


def batch() -> WriteEventsRequest:
    """A hundred events of a kilobyte."""
    context = EventContext(referrer="r" * 500)
    return WriteEventsRequest(
        events=[event(attribution_token="t" * 500, context=context) for _ in range(100)]
    )


@asynccontextmanager
async def profile_sink(ingest: Ingest) -> AsyncIterator[None]:
    """That sink alone: the others are down."""
    stop, clock = asyncio.Event(), SystemClock()
    tasks = [
        asyncio.create_task(
            run(
                StreamReader(ingest.redis, partition, "profile", "me"),
                ProfileSink(ingest.redis, 180, clock),
                Lease(ingest.redis, partition, "profile", "me", clock),
                stop,
            )
        )
        for partition in range(PARTITIONS)
    ]
    yield
    stop.set()
    await asyncio.gather(*tasks)


async def write_until_refused(ingest: Ingest) -> tuple[list[str], grpc.aio.AioRpcError]:
    """The ids that were acknowledged, and the refusal."""
    acknowledged: list[str] = []
    while True:
        request = batch()
        try:
            await ingest.stub.WriteEvents(request)
        except grpc.aio.AioRpcError as error:
            return acknowledged, error
        acknowledged += [each.id for each in request.events]


async def write_until_accepted(ingest: Ingest) -> list[str]:
    request = batch()
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                await ingest.stub.WriteEvents(request)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return [each.id for each in request.events]


async def profile_caught_up(redis: Redis) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while any((await lags(redis, PARTITIONS))["profile"].values()):  # noqa: ASYNC110 -- Redis knows, no event of ours does
            await asyncio.sleep(0.01)


async def test_a_sink_that_is_down_for_long_meets_a_named_limit_and_nothing_acknowledged_is_lost(
    watched: Ingest,
) -> None:
    await watched.stub.UpsertItems(items())
    async with profile_sink(watched):
        acknowledged, refusal = await write_until_refused(watched)
        await profile_caught_up(watched.redis)  # it has room to write in
    info, status = info_of(refusal), rpc_status.from_call(refusal)  # type: ignore[arg-type]  # it has what is asked of a call
    assert status is not None
    retry = error_details_pb2.RetryInfo()

    assert len(acknowledged) >= 1_000
    assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (info.reason, info.metadata["used_share_max"]) == ("STREAM_FULL", "0.8")
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == limits.MEMORY_RETRY_DELAY_MS
    assert 0.8 < metrics.REDIS_MEMORY_SHARE._value.get() < 1.0

    async with watched.consumers():  # the others are back
        acknowledged += await write_until_accepted(watched)
        await watched.caught_up()
    async with watched.pool.connection() as connection:
        rows = await (await connection.execute("SELECT event_id FROM events")).fetchall()
    assert sorted(row[0] for row in rows) == sorted(acknowledged)


async def test_a_store_without_a_limit_is_told_once_and_refuses_nothing(redis: Redis) -> None:
    await redis.config_set("maxmemory", 0)
    memory = Memory(redis)
    with capture_logs() as logs:
        await memory.look()
        await memory.look()

    memory.check()
    assert [entry["event"] for entry in logs] == [
        "Redis has no maxmemory: only the length of the streams bounds what it holds"
    ]


async def test_above_the_share_it_refuses_and_below_it_accepts(redis: Redis) -> None:
    used_bytes = int((await redis.info("memory"))["used_memory"])
    memory = Memory(redis)
    await redis.config_set("maxmemory", int(used_bytes / 0.9))
    await memory.look()
    with pytest.raises(OverloadError, match=r"Redis uses \d+% of its memory"):
        memory.check()

    await redis.config_set("maxmemory", used_bytes * 2)
    await memory.look()
    memory.check()


@pytest.fixture(autouse=True)
async def limit_restored(redis: Redis) -> AsyncIterator[None]:
    before = (await redis.config_get("maxmemory"))["maxmemory"]
    yield
    await redis.config_set("maxmemory", before)
