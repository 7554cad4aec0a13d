"""`python -m bench.one_sink SINK`: a consumer that carries all partitions into one sink alone, until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
import uuid

from ingest import consumer
from ingest.consumer_main import makers
from ingest.lease import Lease
from ingest.stream import StreamReader
from runtime import lifecycle
from runtime.clock import SystemClock
from runtime.postgres import open_pool
from runtime.redis_client import CONNECTIONS_MAX, connect
from runtime.settings import Settings


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """As the consumer does it, without the other sinks."""
    sink, holder = sys.argv[1], uuid.uuid4().hex
    async with (
        connect(settings.redis_url, retries_max=0, connections_max=CONNECTIONS_MAX) as redis,
        open_pool(settings.postgres_url) as pool,
    ):
        make = makers(settings, redis, pool)[sink]
        async with asyncio.TaskGroup() as tasks:
            for partition in range(settings.partition_count):
                lease = Lease(redis, partition, sink, holder, SystemClock())
                reader = StreamReader(redis, partition, sink, holder)
                tasks.create_task(consumer.run(reader, make(partition, lease), lease, stop))


if __name__ == "__main__":
    lifecycle.run("one_sink", main)
