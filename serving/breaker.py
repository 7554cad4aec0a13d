"""Whether a store is worth waiting for: once it was silent, nobody waits for it until one probe was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

# A wait that ends sooner says more of its caller's hurry than of the store: it takes a fraction of a millisecond.
TELLING_MS: Final = 20.0
PROBE_PERIOD_S: Final = 0.02  # between two looks, which are all that an answering store costs
PROBE_S_MAX: Final = 1.0  # of one probe; the reader itself cuts a connection that is silent for so long

# What says that the store is away, not that one value can't be had.
AWAY = (RedisConnectionError, RedisTimeoutError, OSError)


class Breaker:
    """Open: nobody waits. For one event loop; `look` has to be called every PROBE_PERIOD_S."""

    def __init__(self, probe: Callable[[float], Awaitable[object]]) -> None:
        """`probe` asks the store anything, until a time in the loop's clock; it raises RedisError or OSError."""
        self._probe = probe
        self.is_open = False

    def note(self, error: BaseException, waited_s: float) -> None:
        """The store did not give a value after `waited_s` seconds. Opens, unless that says nothing of the store."""
        hurried = isinstance(error, TimeoutError) and waited_s * 1000 < TELLING_MS
        if self.is_open or hurried or not isinstance(error, AWAY):
            return
        self.is_open = True
        # Said when it begins and when it ends, not a thousand times a second.
        message = "profiles can't be read, answers go on without them; is Redis up, and reachable from here?"
        structlog.get_logger().warning(message, error=f"{type(error).__name__}: {error}")

    async def look(self) -> None:
        """While it is open, asks the store once; closes when that is answered."""
        if not self.is_open:
            return
        try:
            await self._probe(asyncio.get_running_loop().time() + PROBE_S_MAX)
        except (RedisError, OSError):
            return
        self.is_open = False
        structlog.get_logger().info("profiles can be read again")
