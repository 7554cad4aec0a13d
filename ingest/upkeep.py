"""What the stream needs beside reading and writing: letting go of what all sinks have, and saying how far each is behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio import Redis

from ingest import limits
from ingest.dead_letters import spill
from ingest.lag import groups_of, read_lags
from ingest.lake.files import LakeFiles
from ingest.stream import SINKS, stream_key
from profiles.offsets import entry_id_of, pack_offset
from runtime import metrics
from runtime.errors import RecoError
from runtime.redis_client import redis_errors


async def trim(redis: Redis, partition: int) -> None:
    """Lets go of what every sink has acknowledged; as long as one of them has never come, of nothing."""
    groups = await groups_of(redis, partition)
    if not all(sink in groups for sink in SINKS):
        return
    floor = min([await _floor(redis, partition, groups[sink]) for sink in SINKS])
    trimmed = 1
    while (
        trimmed
    ):  # the store lets go of some 10,000 a command: one for each turn of upkeep would cap what flows through
        with redis_errors():
            trimmed = await redis.xtrim(stream_key(partition), minid=entry_id_of(floor), approximate=True)


async def keep_up(redis: Redis, files: LakeFiles, partition_count: int, stop: asyncio.Event) -> None:
    """Trims, moves dead letters to the lake and publishes the lags until `stop`."""

    async def trim_all() -> None:
        for partition in range(partition_count):
            await trim(redis, partition)

    async def spill_all() -> None:
        for partition in range(partition_count):
            await spill(redis, files, partition)

    async def publish_lags() -> None:
        for sink, by_partition in (await read_lags(redis, partition_count)).items():
            for partition, lag in by_partition.items():
                metrics.SINK_LAG_EVENTS.labels(sink, partition).set(lag.entries)
                metrics.SINK_LAG_SECONDS.labels(sink, partition).set(lag.age_s)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_repeat(trim_all, limits.TRIM_EVERY_S, stop))
        tasks.create_task(_repeat(spill_all, limits.SPILL_EVERY_S, stop))
        tasks.create_task(_repeat(publish_lags, limits.LAG_EVERY_S, stop))


async def _repeat(work: Callable[[], Awaitable[None]], every_s: float, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await work()
        except RecoError as error:
            structlog.get_logger().warning(
                "upkeep of the stream failed; it is tried again", error=error.message
            )
        except Exception:  # not foreseen; the sinks go on meanwhile
            structlog.get_logger().exception("upkeep of the stream failed; it is tried again")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)


async def _floor(redis: Redis, partition: int, group: Any) -> int:
    """The offset from which on a group still needs entries, its last one included."""
    if group["pending"]:
        with redis_errors():
            summary = await redis.xpending(stream_key(partition), group["name"])
        if summary["min"]:
            return pack_offset(summary["min"])
    return pack_offset(group["last-delivered-id"])
