"""Which consumer processes there are, and which units are this one's. The lease (ingest/lease.py) still decides who writes.

Each process tells Redis every BEAT_EVERY_S that it lives. Who was not heard for MEMBER_TTL_S is dropped, by Redis' clock
alone: clocks of machines differ. From the same list each process works out the same shares (ingest/assignment.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis

from ingest import limits
from ingest.assignment import Unit, assign, units_of
from ingest.stream import MEMBERS_KEY
from runtime import metrics
from runtime.clock import Clock
from runtime.errors import RecoError
from runtime.redis_client import redis_errors

# KEYS: members. ARGV: member, most ms since its last beat. Answers who is there. A beat from the future was made before the
# store's clock went back: who made it beats again at once, or is gone.
_BEAT = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl_ms = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - ttl_ms)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now_ms + ttl_ms, '+inf')
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""


def make_name() -> str:
    """A name that no other process has or had: host and process id for people, the rest so that it is the only one."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


class Membership:
    """One process among the consumers. As long as Redis is away, the last shares hold."""

    def __init__(self, redis: Redis, name: str, partition_count: int, clock: Clock) -> None:
        self.name = name
        self._redis = redis
        self._units = units_of(partition_count)
        self._clock = clock
        self._beat = redis.register_script(_BEAT)
        self._members: Sequence[str] = ()
        self._owned: frozenset[Unit] = frozenset()
        self.share_count = 0  # how often the shares have changed
        self._heard_s = float("-inf")  # when Redis last answered, by our clock

    def owns(self, partition: int, sink: str) -> bool:
        """Whether (partition, sink) is this process's share; of nothing before the first beat."""
        return (partition, sink) in self._owned

    async def keep(self, stop: asyncio.Event) -> None:
        """Beats until `stop`, then leaves: the others need not wait until it is missed."""
        while not stop.is_set():
            try:
                await self.beat()
            except RecoError as error:
                structlog.get_logger().warning("the shares stay as they are", error=error.message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), limits.BEAT_EVERY_S)
        await self.leave()

    async def beat(self) -> None:
        """Says that this process lives, and learns who else does. Raises DependencyError.

        The first answer after a silence is not believed: all were silent while Redis was away, and who beats first would
        find the others gone.
        """
        ttl_ms = int(limits.MEMBER_TTL_S * 1000)
        with redis_errors():
            names = await self._beat([MEMBERS_KEY], [self.name, ttl_ms])
        silent_s, self._heard_s = self._clock.monotonic_s() - self._heard_s, self._clock.monotonic_s()
        if not self._members or silent_s < limits.SILENCE_S_MAX:
            self._share(sorted(name.decode() for name in names))

    async def leave(self) -> None:
        """Takes this process off the list. Where that fails, it is dropped MEMBER_TTL_S later."""
        with contextlib.suppress(RecoError), redis_errors():
            await self._redis.zrem(MEMBERS_KEY, self.name)

    def _share(self, members: Sequence[str]) -> None:
        if members == self._members:
            return
        owner_of = assign(self._units, members)
        owned = frozenset(unit for unit, owner in owner_of.items() if owner == self.name)
        message = "consumers came or went"
        structlog.get_logger().info(
            message, members=len(members), units=len(owned), moved=len(owned ^ self._owned)
        )
        self._members, self._owned = members, owned
        self.share_count += 1
        metrics.CONSUMER_MEMBERS.set(len(members))
        metrics.CONSUMER_UNITS.set(len(owned))
