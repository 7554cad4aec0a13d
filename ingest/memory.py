"""Back-pressure before Redis' memory runs out: above a share of maxmemory no more events come in, so that sinks can go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import structlog
from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis

from ingest import limits
from runtime import metrics
from runtime.errors import DependencyError, OverloadError, RecoError
from runtime.redis_client import redis_errors
from runtime.redis_many import primaries_say


class Memory:
    """How full Redis is, by a look every MEMORY_LOOK_S. Where it has no maxmemory, the streams' length is the only limit."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._share = 0.0
        self._said = ""  # what the log says of it already

    def check(self) -> None:
        """Raises OverloadError when more events would take the room that profiles need."""
        if self._share > limits.MEMORY_SHARE_MAX:
            raise _full(self._share)

    async def watch(self, stop: asyncio.Event) -> None:
        """Looks until `stop`. While Redis is away, what was seen last holds."""
        while not stop.is_set():
            try:
                await self.look()
            except DependencyError:
                pass  # every append says so, too
            except RecoError as error:
                self._share = 0.0
                self._say(
                    "Redis may not be asked for its memory (INFO): only its own limit holds", error.message
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), limits.MEMORY_LOOK_S)

    async def look(self) -> None:
        """Asks once. Raises RecoError."""
        with redis_errors():
            found = await primaries_say(self._redis, "INFO", "memory")
        self._share = max(map(_share, found))  # of a cluster's nodes, the fullest counts
        metrics.REDIS_MEMORY_SHARE.set(self._share)
        if not any(int(node.get("maxmemory", 0)) for node in found):
            self._say("Redis has no maxmemory: only the length of the streams bounds what it holds")
        elif self._share > limits.MEMORY_SHARE_MAX:
            self._say("events are refused: Redis is nearly full", f"above {limits.MEMORY_SHARE_MAX:.0%}")
        else:
            self._said = ""

    def _say(self, message: str, cause: str = "") -> None:
        """Once, as long as it lasts."""
        if self._said != message:
            structlog.get_logger().warning(message, cause=cause)
        self._said = message


def _share(found: Mapping[str, Any]) -> float:
    """Used of maxmemory, as Redis itself compares: what waits for replicas and for the disk is left out. 0: no limit."""
    used_bytes = int(found["used_memory"]) - int(found.get("mem_not_counted_for_evict", 0))
    limit_bytes = int(found.get("maxmemory", 0))
    return used_bytes / limit_bytes if limit_bytes else 0.0


def _full(share: float) -> OverloadError:
    delay_ms = limits.MEMORY_RETRY_DELAY_MS
    metadata = {
        "store": "redis", "used_share": f"{share:.2f}", "used_share_max": f"{limits.MEMORY_SHARE_MAX}",
        "retry_delay_ms": str(delay_ms),
    }  # fmt: skip
    message = (
        f"Redis uses {share:.0%} of its memory, and the rest is kept for profiles: a sink is behind, or maxmemory is too small "
        f"(docs/redis.md); retry after {delay_ms} ms"
    )
    return OverloadError(error_reason_pb2.ERROR_REASON_STREAM_FULL, message, metadata)
