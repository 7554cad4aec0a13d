"""What is written after an answer has gone out: what was served to whom, and how what was drawn was decided.

An answer only puts it into a queue; a background task writes the queue, a round trip for each kind. Nobody waits for it: where
the queue is full, or Redis is away, the newest is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime import metrics
from runtime.redis_many import run_scripts
from serving.exploration import DECISION_COUNT_MAX, DECISIONS_KEY, Draw
from serving.exploration import encode as encode_draw
from serving.served import APPEND, RING_BYTES_MAX, Keys, served_key
from serving.served import encode as encode_served

T = TypeVar("T")
OUTBOX_PERIOD_S: Final = 0.05  # so soon the next request knows what this one showed
QUEUE_COUNT_MAX: Final = 4_096  # of each kind: two seconds of a process at its fastest, some MiB
BATCH_COUNT_MAX: Final = 256  # written in one go: the event loop is held for about 2 ms
WRITE_S_MAX: Final = 1.0

_DROPPED = {kind: metrics.AFTERWARDS_DROPPED_TOTAL.labels(kind).inc for kind in ("served", "decision")}


@dataclass(frozen=True, slots=True)
class Showing:
    """Items that were served to a subject."""

    subject: str
    keys: Keys
    time_s: float
    ttl_s: int


class Outbox:
    """For the event loop's thread; call `flush` every OUTBOX_PERIOD_S."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._showings: deque[Showing] = deque()
        self._draws: deque[Draw] = deque()
        self._failing = False

    def served(self, subject: str, keys: Keys, time_s: float, ttl_s: int) -> None:
        """These keys (m,) went out; forgotten `ttl_s` seconds after the last that went to the subject."""
        if len(self._showings) >= QUEUE_COUNT_MAX:
            _DROPPED["served"]()
            return
        self._showings.append(Showing(subject, keys, time_s, ttl_s))

    def decided(self, draw: Draw) -> None:
        """An answer with places that were drawn."""
        if len(self._draws) >= QUEUE_COUNT_MAX:
            _DROPPED["decision"]()
            return
        self._draws.append(draw)

    async def flush(self) -> int:
        """Writes what waits, returns how much that was; what can't be written is dropped, and counted."""
        written = 0
        while self._showings or self._draws:
            showings, draws = _taken(self._showings), _taken(self._draws)
            try:
                async with asyncio.timeout(WRITE_S_MAX):
                    await self._write(showings, draws)
            except (RedisError, OSError, TimeoutError) as error:
                _DROPPED["served"](len(showings))
                _DROPPED["decision"](len(draws))
                self._note(error)
                return written
            written += len(showings) + len(draws)
            self._note(None)
        return written

    async def _write(self, showings: list[Showing], draws: list[Draw]) -> None:
        calls: list[tuple[list[str], list[bytes | int]]] = [
            ([served_key(each.subject)], [encode_served(each.keys, each.time_s), RING_BYTES_MAX, each.ttl_s])
            for each in showings
        ]
        await run_scripts(self._redis, APPEND, calls)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for draw in draws:
                pipeline.xadd(
                    DECISIONS_KEY, {b"d": encode_draw(draw)}, maxlen=DECISION_COUNT_MAX, approximate=True
                )
            await pipeline.execute()

    def _note(self, error: BaseException | None) -> None:
        # Said when it begins and when it ends.
        if error and not self._failing:
            words = f"{type(error).__name__}: {error}"
            structlog.get_logger().warning("what was served can't be written", error=words)
        if self._failing and not error:
            structlog.get_logger().info("what was served can be written again")
        self._failing = error is not None


def _taken(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(min(len(queue), BATCH_COUNT_MAX))]
