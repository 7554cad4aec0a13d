"""Who may write a partition into a sink: one process at a time."""

from __future__ import annotations

import contextlib

from redis.asyncio import Redis

from ingest import limits
from ingest.stream import lease_key, lease_lost
from runtime.clock import Clock
from runtime.errors import RecoError
from runtime.redis_client import redis_errors

# KEYS: lease. ARGV: holder, TTL in ms. 1 when the holder has it now.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """A lease of (partition, sink) for `holder`, a name that no other process has."""

    def __init__(self, redis: Redis, partition: int, sink: str, holder: str, clock: Clock) -> None:
        self._redis = redis
        self._partition, self._sink = partition, sink
        self._key = lease_key(partition, sink)
        self._holder = holder
        self._clock = clock
        self._hold = redis.register_script(_HOLD)
        self._release = redis.register_script(_RELEASE)
        self._since_s = float("-inf")  # when it was last renewed, by our clock, before we asked
        self._may_be_ours = False  # in the store: we have asked and were not told no

    async def hold(self) -> bool:
        """Takes or renews the lease where that is due; whether we have it. Raises DependencyError."""
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s < limits.LEASE_RENEW_S:
            return True
        self._may_be_ours = True
        with redis_errors():
            held = await self._hold([self._key], [self._holder, int(limits.LEASE_TTL_S * 1000)])
        self._may_be_ours = bool(held)
        self._since_s = now_s if held else float("-inf")
        return bool(held)

    async def seize(self) -> None:
        """Takes the lease from whoever has it. Its holder may be in the middle of a batch: that must do no harm."""
        now_s = self._clock.monotonic_s()
        with redis_errors():
            await self._redis.set(self._key, self._holder, px=int(limits.LEASE_TTL_S * 1000))
        self._may_be_ours, self._since_s = True, now_s

    async def is_free(self) -> bool:
        """Whether nobody has it. Raises DependencyError."""
        with redis_errors():
            return not await self._redis.exists(self._key)

    def check(self) -> None:
        """Raises StateError when the lease may have gone to another since it was renewed."""
        if self._clock.monotonic_s() - self._since_s >= limits.LEASE_TTL_S:
            raise lease_lost(self._partition, self._sink)

    def doubt(self) -> None:
        """Makes the next `hold` ask: something went wrong, perhaps since the store forgot the lease or gave it away."""
        self._since_s = float("-inf")

    async def release(self) -> bool:
        """Gives it back, so that a successor need not wait; whether there was one. Where that fails, it runs out."""
        if not self._may_be_ours:
            return False
        self._since_s = float("-inf")
        with contextlib.suppress(RecoError), redis_errors():
            await self._release([self._key], [self._holder])
            self._may_be_ours = False
        return True
