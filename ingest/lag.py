"""How far each sink is behind."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ingest.stream import SINKS, stream_key
from runtime.redis_client import redis_errors


async def lags(redis: Redis, partition_count: int) -> dict[str, dict[int, int]]:
    """Entries that each sink has not acknowledged, by sink and partition. Raises DependencyError."""
    behind: dict[str, dict[int, int]] = {sink: {} for sink in SINKS}
    for partition in range(partition_count):
        groups = await groups_of(redis, partition)
        length = await _length(redis, partition)
        for sink in SINKS:
            behind[sink][partition] = _lag(groups[sink], length) if sink in groups else length
    return behind


async def groups_of(redis: Redis, partition: int) -> dict[str, Any]:
    """What the store tells of each consumer group of a partition, by sink."""
    with redis_errors():
        try:
            rows: Any = await redis.xinfo_groups(stream_key(partition))
        except ResponseError as error:
            if "no such key" in str(error):
                return {}
            raise
    return {row["name"].decode(): row for row in rows}


async def _length(redis: Redis, partition: int) -> int:
    with redis_errors():
        return int(await redis.xlen(stream_key(partition)))


def _lag(group: Any, length: int) -> int:
    """`lag` counts what was not delivered; the store leaves it out when it can't tell: then all may be."""
    undelivered = group.get("lag")
    return int(group["pending"]) + (length if undelivered is None else int(undelivered))
