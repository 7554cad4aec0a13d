"""Item news: read as they were written, and never in the way of an upsert."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from ingest import limits
from ingest.announcer import Announcer
from profiles.item_news import CHANNEL, GONE_COUNT_MAX, ItemNews, decode, encode

NEWS = ItemNews("7:1:5", 12, (3, 1))


class Publisher:
    """Stands in for Redis: answers, fails, or never says a word."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.error: Exception | None = None
        self.is_silent = False
        self.pinged_after = 0

    async def publish(self, channel: str, message: bytes) -> int:
        if self.is_silent:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        self.published.append((channel, message))
        return 1

    async def ping(self) -> bool:
        self.pinged_after = len(self.published)
        return True


@pytest.mark.parametrize(
    "news", [NEWS, ItemNews("", 0, ()), ItemNews("x", 2**62, tuple(range(GONE_COUNT_MAX)))]
)
def test_decode_when_encoded_gives_the_same(news: ItemNews) -> None:
    assert decode(encode(news)) == news


@pytest.mark.parametrize(
    "message",
    [b"", b"x", b"[]", b"{}", b'{"database":"a","xid":1}', b'{"database":"a","xid":1,"gone":[-1]}',
     b'{"database":"a","xid":1,"gone":["3"]}', b'{"database":"a","xid":"b","gone":[]}', b'{"database":"a","xid":1,"gone":[1e9]}'],
)  # fmt: skip
def test_decode_when_it_is_something_else_gives_nothing(message: bytes) -> None:
    assert decode(message) is None


async def test_tell_when_redis_answers_publishes() -> None:
    redis: Any = Publisher()
    await Announcer(redis).tell(NEWS)
    assert redis.published == [(CHANNEL, encode(NEWS))]
    assert redis.pinged_after == 1


@pytest.mark.parametrize("is_silent", [True, False])
async def test_tell_when_redis_is_away_returns_and_says_so_once(
    is_silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ANNOUNCE_WAIT_S_MAX", 0.01)
    redis: Any = Publisher()
    redis.error, redis.is_silent = RedisConnectionError("gone"), is_silent
    announcer = Announcer(redis)
    with structlog.testing.capture_logs() as logs:
        await announcer.tell(NEWS)
        await announcer.tell(NEWS)
        redis.error, redis.is_silent = None, False
        await announcer.tell(NEWS)
        await announcer.tell(NEWS)
    assert [log["log_level"] for log in logs] == ["warning", "info"]
    assert len(redis.published) == 2
