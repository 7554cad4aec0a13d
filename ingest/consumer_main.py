"""`python -m ingest.consumer_main`: carries all partitions of the stream into all three sinks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from redis.asyncio import Redis

from ingest import consumer, upkeep
from ingest.consumer import Sink
from ingest.lake_files import open_lake
from ingest.lease import Lease
from ingest.schema import MIGRATIONS
from ingest.sinks.lake import LakeSink
from ingest.sinks.postgres import PostgresSink
from ingest.sinks.profile import ProfileSink
from ingest.stream import SINKS, StreamReader
from runtime import lifecycle, metrics
from runtime.clock import SystemClock
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool
from runtime.redis_client import CONNECTIONS_MAX, connect
from runtime.settings import Settings

METRICS_PORT_OFFSET = 1


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Brings the schema forward, then carries until `stop`."""
    connections_max = (
        len(SINKS) * settings.partition_count + CONNECTIONS_MAX
    )  # each reader holds one while it waits
    redis = connect(settings.redis_url, retries_max=0, connections_max=connections_max)
    async with redis, open_pool(settings.postgres_url) as pool:
        await migrate(pool, MIGRATIONS)
        metrics.serve_metrics(settings.host, settings.metrics_port_base + METRICS_PORT_OFFSET)
        await run_all(settings, redis, pool, stop)


async def run_all(settings: Settings, redis: Redis, pool: Pool, stop: asyncio.Event) -> None:
    """A task for each sink of each partition, and the upkeep of the stream."""
    holder = uuid.uuid4().hex
    make = _makers(settings, redis, pool)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(upkeep.keep_up(redis, settings.partition_count, stop))
        for partition in range(settings.partition_count):
            for name in SINKS:
                lease = Lease(redis, partition, name, holder, SystemClock())
                reader = StreamReader(redis, partition, name, holder)
                tasks.create_task(consumer.run(reader, make[name](partition, lease), lease, stop))


def _makers(settings: Settings, redis: Redis, pool: Pool) -> dict[str, Callable[[int, Lease], Sink]]:
    files = open_lake(settings.lake_url, settings.data_dir)
    profile = ProfileSink(redis, settings.profile_ttl_days, SystemClock())
    postgres = PostgresSink(pool)
    return {
        "profile": lambda _partition, _lease: profile,
        "postgres": lambda _partition, _lease: postgres,
        "lake": lambda partition, lease: LakeSink(files, partition, lease.check),
    }


if __name__ == "__main__":
    lifecycle.run("consumer", main)
