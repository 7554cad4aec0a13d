"""Events into profiles and trending counts: what serving reads."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from ingest import limits
from ingest.events import StreamEvent, micros_of
from profiles import store, trending
from profiles.codec import pack_event
from profiles.signals import signal_of
from runtime import metrics
from runtime.clock import Clock
from runtime.redis_client import redis_errors

DAY_S = 86_400

Signalled = tuple[int, int, int]  # unix seconds, signal, item key


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
        applied: dict[str, list[Signalled]] = {}

        def select(subject: str, applied_offset: int) -> tuple[NDArray[np.uint64], int] | None:
            own = by_subject[subject]
            fresh = own[bisect_right(own, applied_offset, key=lambda event: event.offset) :]
            applied[subject] = [_signalled(event) for event in fresh]
            return (_pack(applied[subject]), own[-1].offset) if fresh else None

        with redis_errors():
            await store.apply(self._redis, list(by_subject), select, self._ttl_s)
            await self._add_trending([event for own in applied.values() for event in own])
        self._observe_freshness(events)

    async def _add_trending(self, events: list[Signalled]) -> None:
        """Only for what was counted in just now: redelivery counts nothing twice."""
        weeks = trending.counts(events, self._clock.time_s())
        if weeks:
            await trending.add(self._redis, weeks)

    def _observe_freshness(self, events: Sequence[StreamEvent]) -> None:
        now_micros = self._clock.time_s() * 1e6
        for accept_micros in {
            micros_of(event.accepted.accept_time) for event in events
        }:  # one for each write
            metrics.FRESHNESS_SECONDS.observe((now_micros - accept_micros) / 1e6)


def _by_subject(events: Sequence[StreamEvent]) -> dict[str, list[StreamEvent]]:
    by_subject: dict[str, list[StreamEvent]] = {}
    for event in events:
        by_subject.setdefault(event.subject, []).append(event)
    return by_subject


def _pack(events: Sequence[Signalled]) -> NDArray[np.uint64]:
    return np.array([pack_event(*event) for event in events], np.uint64)


def _signalled(event: StreamEvent) -> Signalled:
    accepted = event.accepted
    return (
        accepted.event.event_time.seconds,
        signal_of(accepted.event.type, accepted.event.value),
        accepted.item_key,
    )
