"""The ingest server, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import structlog
from reco.ingest.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from redis.asyncio import Redis

from ingest.announcer import Announcer
from ingest.durability import wait_verified
from ingest.keys import ItemKeys
from ingest.memory import Memory
from ingest.schema import MIGRATIONS as MIGRATIONS
from ingest.service import IngestService
from ingest.stream import StreamWriter
from ingest.writer import EventWriter
from runtime import metrics, rpc
from runtime.clock import SystemClock
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool
from runtime.redis_client import connect
from runtime.settings import Settings

SERVICE_NAME = ingest_service_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Brings the schema forward, then serves until `stop`."""
    async with connect(settings.redis_url) as redis, open_pool(settings.postgres_url) as pool:
        await wait_verified(redis, settings, stop)
        applied = await migrate(pool, MIGRATIONS)
        metrics.serve_metrics(settings.host, settings.metrics_port_base)
        memory = Memory(redis)
        watching = asyncio.create_task(memory.watch(stop))
        address = f"{settings.host}:{settings.ingest_port}"
        server, health, port = await rpc.start_server(
            address, add_service(make_service(settings, redis, pool, memory))
        )
        structlog.get_logger().info("ingest serves", host=settings.host, port=port, migrations=applied)
        await stop.wait()
        await rpc.stop_server(server, health)
        await watching


def make_service(settings: Settings, redis: Redis, pool: Pool, memory: Memory | None = None) -> IngestService:
    """The service over open stores. `memory`: watched by the caller; without it Redis' own limit is the first that is met."""
    check_room = memory.check if memory else lambda: None
    stream = StreamWriter(redis, replica_count=settings.replica_count, check_room=check_room)
    writer = EventWriter(stream, ItemKeys(pool), settings.partition_count, SystemClock())
    return IngestService(writer, pool, Announcer(redis))


def add_service(service: IngestService) -> Callable[[grpc.aio.Server], list[str]]:
    """What registers the service with a server (runtime.rpc.start_server)."""

    def add(server: grpc.aio.Server) -> list[str]:
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(service, server)
        return [SERVICE_NAME]

    return add
