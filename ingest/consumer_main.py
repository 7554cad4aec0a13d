"""`python -m ingest.consumer_main`: carries the stream into all three sinks, alone or as one of several such processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from redis.asyncio import Redis

from ingest import consumer, upkeep
from ingest.assignment import Unit, units_of
from ingest.chores import do_chores
from ingest.consumer import Sink
from ingest.lake.files import open_lake
from ingest.lake.upkeep import LakeUpkeep
from ingest.lease import Lease
from ingest.membership import Membership, make_name
from ingest.schema import MIGRATIONS
from ingest.sinks.lake import LakeSink, lift_ids
from ingest.sinks.postgres import PostgresSink
from ingest.sinks.profile import ProfileSink
from ingest.store_chores import store_chores
from ingest.stream import SINKS, StreamReader
from ingest.turn import Turn
from runtime import lifecycle, metrics
from runtime.clock import SystemClock
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool
from runtime.redis_client import CONNECTIONS_MAX, connect
from runtime.settings import Settings

METRICS_PORT_OFFSET = 1
METRICS_PORT_OFFSET_FURTHER = (
    50  # of further processes on this machine, plus their number; serving's end at 41
)


def metrics_port(settings: Settings) -> int:
    """Where this process serves its metrics."""
    index = settings.consumer_index
    return settings.metrics_port_base + (
        METRICS_PORT_OFFSET_FURTHER + index if index else METRICS_PORT_OFFSET
    )


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Brings the schema forward, then carries until `stop`."""
    connections_max = (
        len(SINKS) * settings.partition_count + CONNECTIONS_MAX
    )  # each reader holds one while it waits
    redis = connect(settings.redis_url, retries_max=0, connections_max=connections_max)
    async with redis, open_pool(settings.postgres_url) as pool:
        await migrate(pool, MIGRATIONS)
        metrics.serve_metrics(settings.host, metrics_port(settings))
        await run_all(settings, redis, pool, stop)


async def run_all(settings: Settings, redis: Redis, pool: Pool, stop: asyncio.Event) -> None:
    """A task for each sink of each partition, the heartbeat that shares them out, and the upkeep of stream and stores."""
    clock = SystemClock()
    member = Membership(redis, make_name(), settings.partition_count, clock)
    files = open_lake(settings.lake_url, settings.data_dir)
    make = makers(settings, redis, pool)
    units = units_of(settings.partition_count)
    leases = {unit: Lease(redis, *unit, member.name, clock) for unit in units}
    # Two of the same holder's: a long look of the one's chores does not keep the other's waiting.
    upkeep_lease, lake_lease = (Lease(redis, 0, "upkeep", member.name, clock) for _ in range(2))
    lake = _lake_upkeep(settings, pool, leases, lake_lease, stop)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(member.keep(stop))
        tasks.create_task(upkeep.keep_up(redis, files, settings.partition_count, stop))
        tasks.create_task(do_chores(store_chores(settings, pool, clock), upkeep_lease, clock, stop))
        tasks.create_task(do_chores(lake.chores(), lake_lease, clock, stop))
        tasks.create_task(lake.keep_compact())
        for (partition, name), lease in leases.items():
            begin = partial(lift_ids, redis, files, partition) if name == "lake" else None
            reader = StreamReader(redis, partition, name, member.name, begin, settings.replica_count)
            turn = Turn(member, (partition, name), lease, clock)
            tasks.create_task(consumer.run(reader, make[name](partition, lease), lease, stop, turn.take))


def _lake_upkeep(
    settings: Settings, pool: Pool, leases: Mapping[Unit, Lease], lease: Lease, stop: asyncio.Event
) -> LakeUpkeep:
    files = open_lake(settings.lake_url, settings.data_dir)
    of_lake = {partition: each for (partition, name), each in leases.items() if name == "lake"}
    return LakeUpkeep(files, pool, of_lake, lease, settings.lake_keep_days, SystemClock(), stop)


def makers(settings: Settings, redis: Redis, pool: Pool) -> dict[str, Callable[[int, Lease], Sink]]:
    """What makes a sink of a partition under its lease, by the sink's name."""
    files = open_lake(settings.lake_url, settings.data_dir)
    profile = ProfileSink(redis, settings.profile_ttl_days, SystemClock())
    return {
        "profile": lambda _partition, _lease: profile,
        "postgres": lambda partition, _lease: PostgresSink(pool, partition),
        "lake": lambda partition, lease: LakeSink(files, partition, lease.check),
    }


if __name__ == "__main__":
    lifecycle.run("consumer", main)
