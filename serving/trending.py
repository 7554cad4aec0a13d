"""The items that rise right now: read in the background, the last list is kept while Redis is away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError

from profiles.trending import read_trending
from runtime.clock import Clock
from serving import limits


@dataclass(frozen=True)
class TrendingList:
    """What trends, best first."""

    keys: NDArray[np.int32]  # (t,) int32
    shares: NDArray[np.float32]  # (t,) float32, of the list's whole weight


NOTHING = TrendingList(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


class Trending:
    """Keeps `current` at most a few seconds old."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self.current = NOTHING
        self._redis = redis
        self._clock = clock

    async def refresh(self) -> bool:
        """Reads the list once; False, and the old list stays, if Redis did not answer."""
        try:
            async with asyncio.timeout(limits.FOLLOW_S_MAX):
                found = await read_trending(self._redis, self._clock.time_s(), limits.TRENDING_COUNT_MAX)
        except (RedisError, OSError, TimeoutError):
            return False
        keys, scores = found
        self.current = TrendingList(keys, scores / max(float(scores.sum()), 1e-9))
        return True
