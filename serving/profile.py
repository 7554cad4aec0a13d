"""What is known of who asks: the stored profile, the events that come with the request, and what is being looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray
from reco.ingest.v1.event_pb2 import EventType
from reco.ranking.v1.ranking_service_pb2 import Degradation, InlineEvent
from redis.exceptions import RedisError

from profiles.codec import Profile, ProfileDamagedError, applied_offset_of, decode
from profiles.offsets import offset_for, parse_token
from profiles.signals import Signal, signal_of
from profiles.store import profile_key
from profiles.subjects import subject_of
from runtime.redis_reader import RedisReader
from serving import limits
from serving.catalogue import Catalogue

EMPTY = decode(None)
RATING_DEFAULT = 3.0  # an inline rating without a value says that the item was rated, not how


class Asker(Protocol):
    """The fields that `RecommendRequest` and `RankItemsRequest` share."""

    user_id: str
    session_id: str
    minimum_offset: str


@dataclass(frozen=True)
class Ring:
    """Events by item key, oldest first: what the vectorizer reads."""

    keys: NDArray[np.int32]  # (m,) int32
    codes: NDArray[np.uint8]  # (m,) uint8
    times: NDArray[np.uint32]  # (m,) uint32 unix seconds

    def then(self, keys: NDArray[np.int32], codes: Sequence[int], time_s: float) -> Ring:
        """The ring with events of now behind it."""
        if not len(keys):
            return self
        now = np.full(len(keys), int(time_s), dtype=np.uint32)
        return Ring(
            np.concatenate([self.keys, keys]),
            np.concatenate([self.codes, np.array(codes, dtype=np.uint8)]),
            np.concatenate([self.times, now]),
        )


def ring_of(profile: Profile) -> Ring:
    """The profile's recent events."""
    return Ring(profile.keys, profile.codes, profile.times)


def with_inline(ring: Ring, events: Sequence[InlineEvent], catalogue: Catalogue, time_s: float) -> Ring:
    """The ring with the caller's events behind it; those of unknown items are passed over."""
    keys = catalogue.find(event.item_id for event in events)
    codes = [int(_signal(event)) for event, key in zip(events, keys.tolist(), strict=True) if key >= 0]
    return ring.then(keys[keys >= 0], codes, time_s)


def with_context(ring: Ring, keys: NDArray[np.int32], time_s: float) -> Ring:
    """The ring with a view of each context item: what somebody looks at is the newest thing that they did."""
    return ring.then(keys, [int(Signal.VIEW)] * len(keys), time_s)


def _signal(event: InlineEvent) -> Signal:
    value = event.value if event.HasField("value") else RATING_DEFAULT
    return signal_of(event.type or EventType.EVENT_TYPE_VIEW, value)


class ProfileReader:
    """Reads profiles within the call's time; what goes wrong degrades the answer and never fails it."""

    def __init__(self, redis: RedisReader, partition_count: int) -> None:
        self._redis = redis
        self._partition_count = partition_count
        self._failing = False

    async def read(self, asker: Asker, deadline_s: float) -> tuple[Profile, list[Degradation.ValueType]]:
        """The profile of who asks, by `deadline_s` of the loop's clock, and what was degraded.

        CallerError OFFSET_INVALID if the minimum offset is not one of ours.
        """
        if not (asker.user_id or asker.session_id):
            parse_token(asker.minimum_offset)
            # One look at the sockets: what has been told of items that are gone comes first, as it does where a profile is read.
            await asyncio.sleep(0)
            return EMPTY, []
        subject = subject_of(asker.user_id, asker.session_id)
        wanted = offset_for(subject, asker.minimum_offset, self._partition_count) or 0
        try:
            value, fresh = await self._read_from(subject, wanted, deadline_s)
            profile = decode(value)
        except (RedisError, OSError, TimeoutError, ProfileDamagedError) as error:
            self._note(error)
            return EMPTY, [Degradation.DEGRADATION_PROFILE_UNAVAILABLE]
        self._note(None)
        return profile, [] if fresh else [Degradation.DEGRADATION_PROFILE_STALE]

    async def _read_from(self, subject: str, wanted: int, deadline_s: float) -> tuple[bytes | None, bool]:
        """The stored bytes, and whether they count in what is wanted; waits for it OFFSET_WAIT_MS_MAX at most."""
        loop = asyncio.get_running_loop()
        until_s = min(loop.time() + limits.OFFSET_WAIT_MS_MAX / 1000, deadline_s)
        pause_ms = limits.OFFSET_POLL_MS_MIN
        while True:
            value = await self._read_once(subject, deadline_s)
            if applied_offset_of(value) >= wanted:
                return value, True
            if loop.time() + pause_ms / 1000 >= until_s:
                return value, False
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(2 * pause_ms, limits.OFFSET_POLL_MS_MAX)

    async def _read_once(self, subject: str, deadline_s: float) -> bytes | None:
        limit_s = asyncio.get_running_loop().time() + limits.PROFILE_MS_MAX / 1000
        return await self._redis.get(profile_key(subject), min(limit_s, deadline_s))

    def _note(self, error: BaseException | None) -> None:
        # Said when it begins and when it ends, not a thousand times a second.
        if error and not self._failing:
            structlog.get_logger().warning("profiles can't be read", error=f"{type(error).__name__}: {error}")
        if self._failing and not error:
            structlog.get_logger().info("profiles can be read again")
        self._failing = error is not None
