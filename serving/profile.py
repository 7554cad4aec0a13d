"""What is known of who asks: the stored profile, the events that come with the request, and what is being looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from reco.ingest.v1.event_pb2 import EventType
from reco.ranking.v1.ranking_service_pb2 import Degradation, InlineEvent
from redis.exceptions import RedisError

from profiles.codec import Profile, ProfileDamagedError, applied_offset_of, decode
from profiles.offsets import offset_for, parse_token
from profiles.signals import Signal, signal_of
from profiles.store import profile_key
from profiles.subjects import subject_of
from runtime.redis_reader import Reader
from serving import limits
from serving.breaker import Breaker
from serving.catalogue import Catalogue

EMPTY = decode(None)
PROBE_KEY = "reco:probe"  # nothing is there; that it is said counts
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
    """Reads profiles within the call's time; what goes wrong degrades the answer and never fails it.

    While Redis is slow or gone, answers are given at once without them; `look` notices when it is back.
    """

    def __init__(self, redis: Reader, partition_count: int) -> None:
        self._redis = redis
        self._partition_count = partition_count
        self._breaker = Breaker(partial(redis.get, PROBE_KEY))
        self.look = self._breaker.look  # every PROBE_PERIOD_S

    async def read(self, asker: Asker, deadline_s: float) -> tuple[Profile, list[Degradation.ValueType]]:
        """The profile of who asks, by `deadline_s` of the loop's clock, and what was degraded.

        CallerError OFFSET_INVALID if the minimum offset is not one of ours.
        """
        profile, _, degradations = await self._read(asker, deadline_s, ())
        return profile, degradations

    async def read_beside(
        self, asker: Asker, deadline_s: float, key_of: Callable[[str], str]
    ) -> tuple[Profile, bytes | None, list[Degradation.ValueType]]:
        """As `read`, and in the same round trip what was served to the subject, under the key that `key_of` makes of it."""
        profile, served, degradations = await self._read(asker, deadline_s, (key_of,))
        if Degradation.DEGRADATION_PROFILE_UNAVAILABLE in degradations:
            degradations.append(Degradation.DEGRADATION_SERVED_UNKNOWN)
        return profile, served, degradations

    async def _read(
        self, asker: Asker, deadline_s: float, beside: tuple[Callable[[str], str], ...]
    ) -> tuple[Profile, bytes | None, list[Degradation.ValueType]]:
        subject = subject_of(asker.user_id, asker.session_id) if asker.user_id or asker.session_id else ""
        wanted = _wanted_offset(subject, asker.minimum_offset, self._partition_count)
        if not subject or self._breaker.is_open:
            # One look at the sockets: what has been told of items that are gone comes first, as it does where a profile is read.
            await asyncio.sleep(0)
            return EMPTY, None, [Degradation.DEGRADATION_PROFILE_UNAVAILABLE] if subject else []
        start_s = asyncio.get_running_loop().time()
        try:
            keys = [profile_key(subject), *(key_of(subject) for key_of in beside)]
            values, fresh = await self._read_from(keys, wanted, deadline_s)
            profile = decode(values[0])
        except (RedisError, OSError, ProfileDamagedError) as error:
            self._breaker.note(error, asyncio.get_running_loop().time() - start_s)
            return EMPTY, None, [Degradation.DEGRADATION_PROFILE_UNAVAILABLE]
        return profile, values[-1], [] if fresh else [Degradation.DEGRADATION_PROFILE_STALE]

    async def _read_from(
        self, keys: list[str], wanted: int, deadline_s: float
    ) -> tuple[list[bytes | None], bool]:
        """The stored bytes, and whether the first counts in what is wanted; waits for it OFFSET_WAIT_MS_MAX at most."""
        loop = asyncio.get_running_loop()
        until_s = min(loop.time() + limits.OFFSET_WAIT_MS_MAX / 1000, deadline_s)
        pause_ms = limits.OFFSET_POLL_MS_MIN
        while True:
            limit_s = min(loop.time() + limits.PROFILE_MS_MAX / 1000, deadline_s)
            values = await self._redis.get_all(keys, limit_s)
            if applied_offset_of(values[0]) >= wanted:
                return values, True
            if loop.time() + pause_ms / 1000 >= until_s:
                return values, False
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(2 * pause_ms, limits.OFFSET_POLL_MS_MAX)


def _wanted_offset(subject: str, token: str, partition_count: int) -> int:
    if not subject:
        parse_token(token)
        return 0
    return offset_for(subject, token, partition_count) or 0
