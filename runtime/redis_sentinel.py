"""A primary that sentinels know: asked for at every connection, so that a new one is found after a failover."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from runtime.redis_url import RedisUrl

SENTINEL_WAIT_S_MAX = 0.5  # one that hangs is passed over; the one that answered is asked first the next time


class Sentinels(Sentinel):
    """Asked by one caller at a time: redis-py moves the one that answered to the front of its list, and two that do so at once
    put one there twice and lose another, which is asked, and closed, no more."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]  # redis-py's own
        self._turn = asyncio.Lock()

    async def discover_master(self, service_name: str) -> Any:
        """Host and port of the primary."""
        async with self._turn:
            return await super().discover_master(service_name)


class SentinelClient(Redis):
    """A client of the primary. A server that became a replica is left as soon as it refuses a write."""

    sentinels: Sentinels

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Closes the connections to the sentinels, too."""
        await super().aclose(close_connection_pool)
        await self.sentinels.aclose()


def sentinel_of(where: RedisUrl) -> Sentinels:
    """Asks each of the sentinels once, in turn, until one knows."""
    options = {"socket_timeout": SENTINEL_WAIT_S_MAX, "socket_connect_timeout": SENTINEL_WAIT_S_MAX}
    return Sentinels(where.hosts, sentinel_kwargs={**options, "retry": Retry(NoBackoff(), 0)})


def sentinel_client(where: RedisUrl, **options: Any) -> SentinelClient:
    """A client of the primary `where` names; `options` are those of a connection."""
    sentinel = sentinel_of(where)
    account: dict[str, Any] = {"username": where.username, "password": where.password, "db": where.database}
    client: SentinelClient = sentinel.master_for(
        where.primary, redis_class=SentinelClient, **account, **options
    )
    client.sentinels = sentinel
    return client
