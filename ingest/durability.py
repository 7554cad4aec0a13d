"""What the store promises, looked at before anything is acknowledged on it. RECO_DURABILITY says what is wanted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import structlog
from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from ingest import limits
from runtime import redis_url
from runtime.errors import DependencyError, StateError
from runtime.redis_client import redis_errors, told
from runtime.redis_many import primaries_say
from runtime.settings import Settings

# What an acknowledged event needs of `appendfsync`. With replicas that is the operator's choice, but there must be a file: a
# primary that is killed and back before the sentinels notice would come back empty, and its replicas would empty themselves.
ENOUGH = {
    "always": ("always",), "everysec": ("always", "everysec"), "replicas": ("always", "no", "everysec"),
}  # fmt: skip
NAMES = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")


async def wait_verified(redis: Redis, settings: Settings, stop: asyncio.Event) -> None:
    """Returns once the store has said that it keeps what RECO_DURABILITY promises, or at `stop`. Raises StateError.

    A store that is away is waited for: what is acknowledged without having asked could be less than was promised.
    """
    while not stop.is_set():
        try:
            await verify(redis, settings)
            return
        except DependencyError as error:
            structlog.get_logger().warning("ingest waits for Redis", error=error.message)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), limits.VERIFY_RETRY_S)


async def verify(redis: Redis, settings: Settings) -> None:
    """Raises StateError when the store promises less than RECO_DURABILITY, DependencyError when it does not answer."""
    try:
        with redis_errors():
            found = await _config(redis)
    except _CanNotTellError as error:
        message = "Redis may not be asked for its configuration (CONFIG GET): whether it keeps what RECO_DURABILITY promises can't be told"
        structlog.get_logger().warning(message, durability=settings.durability, error=str(error))
        return
    for node in found:
        if lacking := lack(settings.durability, node):
            raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, lacking, {"store": "redis"})
    has_failover = bool(settings.redis_url) and redis_url.parse(settings.redis_url).kind != "one"
    if has_failover and settings.durability != "replicas":
        message = (
            "a failover may lose what was acknowledged just before it: RECO_DURABILITY=replicas keeps that"
        )
        structlog.get_logger().warning(message, durability=settings.durability)


def lack(durability: str, found: Mapping[str, str]) -> str:
    """What `found` (names and values of CONFIG) lacks, and what to do; "" when it is enough."""
    policy = found.get("maxmemory-policy", "noeviction")
    if found.get("maxmemory", "0") != "0" and policy != "noeviction":
        return (
            f"Redis has maxmemory-policy {policy}: it would drop acknowledged events when its memory is full. "
            "Set maxmemory-policy noeviction there"
        )
    has_file, fsync = found.get("appendonly") == "yes", found.get("appendfsync", "")
    if has_file and fsync in ENOUGH[durability]:
        return ""
    told_of = f"appendfsync {fsync}" if has_file else "no append-only file"
    return (
        f"RECO_DURABILITY is {durability}, but Redis has {told_of}: acknowledged events could be lost. "
        f"Set appendonly yes and appendfsync {ENOUGH[durability][-1]} there, or choose another RECO_DURABILITY (docs/redis.md)"
    )


class _CanNotTellError(Exception):
    """The store does not let us ask."""


async def _config(redis: Redis) -> list[dict[str, str]]:
    """What each primary says of itself."""
    try:
        found = await primaries_say(redis, "CONFIG GET", *NAMES)
    except ResponseError as error:
        if isinstance(error, NoPermissionError) or "unknown command" in str(error):
            raise _CanNotTellError(str(error)) from error
        raise told(error) from error
    return [{str(name): str(value) for name, value in node.items()} for node in found]
