"""Whether a store is waited for: not once it was silent, again once it has answered."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from serving.breaker import TELLING_MS, Breaker

LONG_S, SHORT_S = 2 * TELLING_MS / 1000, TELLING_MS / 2000


class Store:
    """Answers, or raises what it is given; counts how often it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    async def probe(self, until_s: float) -> None:
        self.asked += 1
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("error", "waited_s", "opens"),
    [
        (TimeoutError(), LONG_S, True),
        (TimeoutError(), SHORT_S, False),  # the caller was in a hurry
        (RedisConnectionError(), SHORT_S, True),
        (ConnectionRefusedError(), SHORT_S, True),
        (ResponseError("WRONGTYPE"), LONG_S, False),  # it answers, if not what was asked for
    ],
)
def test_error_opens_when_it_says_that_the_store_is_away(
    error: Exception, waited_s: float, opens: bool
) -> None:
    breaker = Breaker(Store().probe)
    breaker.note(error, waited_s)
    assert breaker.is_open is opens


async def test_look_when_closed_asks_nothing() -> None:
    store = Store()
    await Breaker(store.probe).look()
    assert store.asked == 0


async def test_look_when_open_closes_with_the_first_answer() -> None:
    store = Store()
    breaker = Breaker(store.probe)
    breaker.note(TimeoutError(), LONG_S)
    store.error = RedisConnectionError()
    await breaker.look()
    await breaker.look()
    assert (breaker.is_open, store.asked) == (True, 2)
    store.error = None
    await breaker.look()
    assert breaker.is_open is False
