"""Acknowledged when replicas have it: a script whose answer counts once so many replicas hold what it wrote (WAIT)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from ingest import limits
from runtime.errors import DependencyError
from runtime.redis_many import over_one_connection


class ReplicatedScript:
    """Called as redis-py's Script. Keys must share a slot of a cluster.

    WAIT answers for what its own connection wrote last. A call that found everything there already wrote nothing, and what
    it found may be on no replica yet; so each call writes a fence behind it. Replicas take one stream in its order: who has
    the fence has all before it, whoever wrote that.
    """

    def __init__(self, redis: Redis, script: str, replica_count: int) -> None:
        self._redis = redis
        self._script = redis.register_script(script)
        self._replica_count = replica_count

    async def __call__(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """The script's answer. Raises DependencyError when too few replicas have it: then it may be written, or not."""
        try:
            answer, confirmed = await self._once(keys, arguments)
        except NoScriptError:
            await self._redis.script_load(self._script.script)
            answer, confirmed = await self._once(keys, arguments)
        if confirmed < self._replica_count:
            raise _too_few(confirmed, self._replica_count)
        return answer

    async def _once(self, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, int]:
        commands = [
            ("EVALSHA", self._script.sha, len(keys), *keys, *arguments),
            ("SET", f"{keys[0]}:fence", b"", "PX", limits.FENCE_TTL_MS),
            ("WAIT", self._replica_count, limits.WAIT_MS_MAX),
        ]
        answer, _, confirmed = await over_one_connection(self._redis, keys[0], commands)
        return answer, confirmed


def script_on(redis: Redis, script: str, replica_count: int) -> Callable[..., Awaitable[Any]]:
    """A script whose answer counts at once, or (replica_count > 0) when so many replicas have what it wrote."""
    return ReplicatedScript(redis, script, replica_count) if replica_count else redis.register_script(script)


def _too_few(confirmed: int, wanted: int) -> DependencyError:
    delay_ms = limits.REPLICAS_RETRY_DELAY_MS
    message = (
        f"{confirmed} of {wanted} replicas of Redis have it after {limits.WAIT_MS_MAX} ms; nothing was acknowledged, send the "
        f"same ids again after {delay_ms} ms"
    )
    metadata = {"store": "redis", "retry_delay_ms": str(delay_ms)}
    return DependencyError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, metadata)
