"""What a test holds of a running ingest."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from redis.asyncio import Redis

from ingest.consumer_main import run_all
from ingest.lag import lags
from ingest.schema import MIGRATIONS
from ingest.server import add_service, make_service
from ingest.stream import stream_key
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool
from runtime.redis_client import connect
from runtime.rpc import start_server
from runtime.settings import Settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from tests.integration.ingest.samples import event

PARTITIONS = 2
CAUGHT_UP_WAIT_S_MAX = 60.0


@dataclass(frozen=True)
class Ingest:
    """The server behind a stub, its stores, and consumers that the test starts and stops."""

    stub: IngestServiceStub
    redis: Redis
    pool: Pool
    settings: Settings

    @asynccontextmanager
    async def consumers(self) -> AsyncIterator[None]:
        """The three sinks of all partitions."""
        stop = asyncio.Event()
        task = asyncio.create_task(run_all(self.settings, self.redis, self.pool, stop))
        yield
        stop.set()
        await task

    async def caught_up(self) -> None:
        """Returns when no sink is behind."""
        async with asyncio.timeout(CAUGHT_UP_WAIT_S_MAX):
            while any(n for by in (await lags(self.redis, PARTITIONS)).values() for n in by.values()):  # noqa: ASYNC110 -- Redis knows, no event of ours does
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    redis_url: str, postgres_url: str, folder: Path, **settings: object
) -> AsyncIterator[Ingest]:
    """Ingest and consumers as the processes put them together."""
    chosen = Settings(
        data_dir=folder,
        redis_url=redis_url,
        postgres_url=postgres_url,
        partition_count=PARTITIONS,
        **settings,
    )  # type: ignore[arg-type]  # settings by name
    stop = asyncio.Event()
    async with (
        connect(redis_url) as redis,
        connect(redis_url, retries_max=0) as consumer_redis,
        open_pool(postgres_url) as pool,
        open_pool(postgres_url) as consumer_pool,
    ):
        await migrate(pool, MIGRATIONS)
        server, _, port = await start_server("127.0.0.1:0", add_service(make_service(chosen, redis, pool)))
        consumers = asyncio.create_task(run_all(chosen, consumer_redis, consumer_pool, stop))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Ingest(IngestServiceStub(channel), redis, pool, chosen)
        stop.set()
        await consumers
        await server.stop(None)


class Load:
    """Writes batches, each again until it is acknowledged, as a caller would who was told to retry."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self.acknowledged: list[str] = []
        self.refusals: list[grpc.aio.AioRpcError] = []
        self._progress = asyncio.Condition()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            request = WriteEventsRequest(events=[event() for _ in range(5)])
            while not await self._write(request):
                await self._tell()
            self.acknowledged += [each.id for each in request.events]
            await self._tell()

    async def _tell(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def more(self, count: int) -> None:
        """Returns when `count` more events are acknowledged."""
        goal = len(self.acknowledged) + count
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= goal)

    async def refused(self) -> None:
        """Returns when one more write was refused."""
        goal = len(self.refusals) + 1
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.refusals) >= goal)

    async def _write(self, request: WriteEventsRequest) -> bool:
        try:
            answer = await self._ingest.stub.WriteEvents(request)
        except grpc.aio.AioRpcError as error:
            self.refusals.append(error)
            return False
        assert answer.rejected_count == 0
        return True


def kill(store: EmbeddedValkey | EmbeddedPostgres) -> None:
    assert store.pid is not None
    os.kill(store.pid, signal.SIGKILL)


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed call."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is asked of a call
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def stream_length(ingest: Ingest) -> int:
    return sum([await ingest.redis.xlen(stream_key(partition)) for partition in range(PARTITIONS)])
