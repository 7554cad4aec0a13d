"""A primary that sentinels know: asked for at every connection, so that a new one is found after a failover."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from runtime.redis_url import RedisUrl

SENTINEL_WAIT_S_MAX = 0.5  # one that hangs is passed over; the one that answered is asked first the next time


class SentinelClient(Redis):
    """A client of the primary. A server that became a replica is left as soon as it refuses a write."""

    sentinels: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Closes the connections to the sentinels, too."""
        await super().aclose(close_connection_pool)
        await self.sentinels.aclose()


def sentinel_of(where: RedisUrl) -> Sentinel:
    """Asks each of the sentinels once, in turn, until one knows."""
    options = {"socket_timeout": SENTINEL_WAIT_S_MAX, "socket_connect_timeout": SENTINEL_WAIT_S_MAX}
    return Sentinel(where.hosts, sentinel_kwargs={**options, "retry": Retry(NoBackoff(), 0)})  # type: ignore[no-untyped-call]  # redis-py's own


def sentinel_client(where: RedisUrl, **options: Any) -> SentinelClient:
    """A client of the primary `where` names; `options` are those of a connection."""
    sentinel = sentinel_of(where)
    account: dict[str, Any] = {"username": where.username, "password": where.password, "db": where.database}
    client: SentinelClient = sentinel.master_for(
        where.primary, redis_class=SentinelClient, **account, **options
    )
    client.sentinels = sentinel
    return client
