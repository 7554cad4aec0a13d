"""Events into profiles and trending counts: what serving reads."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from ingest import limits
from ingest.events import StreamEvent, micros_of, signal_of
from profiles import store, trending
from profiles.codec import pack_event
from runtime import metrics
from runtime.clock import Clock
from runtime.redis_client import redis_errors

DAY_S = 86_400


class ProfileSink:
    """Idempotent by offset: a profile knows the newest entry that it counts in, and entries come in order."""

    batch_events_max = limits.PROFILE_BATCH_EVENTS_MAX
    fill_s = 0.0

    def __init__(self, redis: Redis, ttl_days: int, clock: Clock) -> None:
        self._redis = redis
        self._ttl_s = ttl_days * DAY_S
        self._clock = clock

    def restart(self) -> None:
        """Remembers nothing, so there is nothing to forget."""

    async def write(self, events: Sequence[StreamEvent]) -> None:
        """Merges events into their subjects' profiles. Raises DependencyError."""
        by_subject = _by_subject(events)
        applied: dict[str, list[StreamEvent]] = {}

        def select(subject: str, applied_offset: int) -> tuple[NDArray[np.uint64], int] | None:
            own = by_subject[subject]
            applied[subject] = own[bisect_right(own, applied_offset, key=lambda event: event.offset) :]
            return (_pack(applied[subject]), own[-1].offset) if applied[subject] else None

        with redis_errors():
            await store.apply(self._redis, list(by_subject), select, self._ttl_s)
            await self._add_trending([event for own in applied.values() for event in own])
        self._observe_freshness(events)

    async def _add_trending(self, events: list[StreamEvent]) -> None:
        """Only for what was counted in just now: redelivery counts nothing twice."""
        weeks = trending.counts([_trend(event) for event in events], self._clock.time_s())
        if weeks:
            await trending.add(self._redis, weeks)

    def _observe_freshness(self, events: Sequence[StreamEvent]) -> None:
        now_micros = self._clock.time_s() * 1e6
        for event in events:
            metrics.FRESHNESS_SECONDS.observe((now_micros - micros_of(event.accepted.accept_time)) / 1e6)


def _by_subject(events: Sequence[StreamEvent]) -> dict[str, list[StreamEvent]]:
    by_subject: dict[str, list[StreamEvent]] = {}
    for event in events:
        by_subject.setdefault(event.subject, []).append(event)
    return by_subject


def _pack(events: Sequence[StreamEvent]) -> NDArray[np.uint64]:
    return np.array(
        [pack_event(time_s, signal, key) for time_s, signal, key in map(_trend, events)], np.uint64
    )


def _trend(event: StreamEvent) -> tuple[int, int, int]:
    accepted = event.accepted
    return accepted.event.event_time.seconds, signal_of(accepted.event), accepted.item_key
