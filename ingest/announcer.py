"""Tells every serving process of items that have changed, after the commit: they look at once, not half a second later."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest import limits
from profiles.item_news import CHANNEL, ItemNews, encode
from runtime.redis_many import cluster_of


class Announcer:
    """Publishes item news. Who can't be told finds it out from PostgreSQL: a Redis that is away fails no upsert."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._failing = False

    async def tell(self, news: ItemNews) -> None:
        """Returns when Redis has passed it on, or can't be waited for; never raises for what is wrong with Redis."""
        try:
            async with asyncio.timeout(limits.ANNOUNCE_WAIT_S_MAX):
                await self._redis.publish(CHANNEL, encode(news))
                # A cluster's nodes tell each other when they come to it: nothing that we could ask would say that they have.
                # Redis answers a turn's commands and passes on what they publish in any order, but all of it before the next
                # turn: with this answer, every serving process has it in its socket.
                if cluster_of(self._redis) is None:
                    await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._note(error)
        else:
            self._note(None)

    def _note(self, error: BaseException | None) -> None:
        # Said when it begins and when it ends, not with each upsert.
        if error and not self._failing:
            message = "changed items can't be told through Redis: serving finds them when it next looks at PostgreSQL"
            structlog.get_logger().warning(message, error=f"{type(error).__name__}: {error}")
        if self._failing and not error:
            structlog.get_logger().info("changed items are told through Redis again")
        self._failing = error is not None
