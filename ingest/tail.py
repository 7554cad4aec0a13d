"""The newest events of the stream, for people who look on. Reads beside the sinks and leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from heapq import nlargest
from typing import Any

from reco.ingest.v1.event_pb2 import AcceptedEvent
from redis.asyncio import Redis

from ingest.events import decode
from ingest.stream import Entry, entry_of, stream_key
from profiles.offsets import entry_id_of
from runtime.redis_client import redis_errors

POLL_S = 0.2  # people don't see quicker
POLL_EVENTS_MAX = 1_000  # of a partition

Positions = dict[int, int]  # by partition: the last entry that was shown, as a packed offset


async def last_events(
    redis: Redis, partition_count: int, count: int
) -> tuple[list[AcceptedEvent], Positions]:
    """The newest `count` events that are still in the stream, oldest first, and where to follow from."""
    positions: Positions = {}
    entries: list[Entry] = []
    for partition in range(partition_count):
        with redis_errors():
            rows: Any = await redis.xrevrange(stream_key(partition), count=max(count, 1))
        newest = [entry_of(*row) for row in rows]
        positions[partition] = newest[0].offset if newest else 0
        entries += newest
    shown = sorted(nlargest(count, entries, key=lambda entry: entry.offset), key=lambda entry: entry.offset)
    return _events(shown), positions


async def follow(redis: Redis, positions: Positions) -> AsyncIterator[AcceptedEvent]:
    """Events that come after `positions`, for ever; each partition's in order. Raises DependencyError."""
    positions = dict(positions)
    while True:
        for partition, position in positions.items():
            start = f"({entry_id_of(position)}"
            with redis_errors():
                rows: Any = await redis.xrange(stream_key(partition), min=start, count=POLL_EVENTS_MAX)
            entries = [entry_of(*row) for row in rows]
            positions[partition] = entries[-1].offset if entries else position
            for event in _events(entries):
                yield event
        await asyncio.sleep(POLL_S)


def _events(entries: list[Entry]) -> list[AcceptedEvent]:
    """What can be read; replayed dead letters are not news."""
    return [event.accepted for event in decode(entries, "")[0]]
