"""What a test holds of a running ingest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from redis.asyncio import Redis

from ingest.consumer_main import run_all
from ingest.lag import lags
from ingest.stream import stream_key
from runtime.postgres import Pool
from runtime.settings import Settings

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


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed call."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is asked of a call
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def stream_length(ingest: Ingest) -> int:
    return sum([await ingest.redis.xlen(stream_key(partition)) for partition in range(PARTITIONS)])
