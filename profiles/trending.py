"""What many users do now: counts that fade with exp(-age / tau), kept without ever touching the old ones.

Forward decay (Cormode, Shkapenyuk, Srivastava, Xu 2009): an event adds exp((t - start of its week) / tau), and the sums are
scaled when they are read. One sorted set a week, so that the weights stay small: exp(7) at tau = one day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from profiles.limits import TRENDING_ITEMS_MAX, TRENDING_TAU_S, TRENDING_TTL_S
from profiles.signals import Signal

WEEK_S = 7 * 86_400
MONDAY_S = 4 * 86_400  # 1970-01-05: weeks are ISO weeks, UTC
AGAINST = frozenset((Signal.RATING_LOW, Signal.DISLIKE))  # these speak against an item

assert TRENDING_TTL_S >= 2 * WEEK_S


def counts(events: Sequence[tuple[float, int, int]], now_s: float) -> dict[int, dict[int, float]]:
    """Weights by week's start and item key, from (unix seconds, signal, item key). Old events no longer trend."""
    weeks: dict[int, dict[int, float]] = {}
    earliest_s = week_start_s(now_s) - WEEK_S
    for time_s, signal, key in events:
        if time_s >= earliest_s and signal not in AGAINST:
            start_s = week_start_s(time_s)
            week = weeks.setdefault(start_s, {})
            week[key] = week.get(key, 0.0) + math.exp((time_s - start_s) / TRENDING_TAU_S)
    return weeks


async def add(redis: Redis, weeks: Mapping[int, Mapping[int, float]]) -> None:
    """Adds weights, keeps the heaviest TRENDING_ITEMS_MAX of each week, and sets when the week is forgotten."""
    async with redis.pipeline(transaction=False) as pipeline:
        for start_s, week in weeks.items():
            key = trending_key(start_s)
            for item, weight in week.items():
                pipeline.zincrby(key, weight, str(item))
            pipeline.zremrangebyrank(key, 0, -TRENDING_ITEMS_MAX - 1)
            pipeline.expire(key, TRENDING_TTL_S)
        await pipeline.execute()


def sums(
    times: NDArray[np.int64], signals: NDArray[np.int64], keys: NDArray[np.int64], now_s: float
) -> dict[int, dict[int, float]]:
    """What `counts` gives, from unix seconds, signals and item keys, each (n,)."""
    earliest_s = week_start_s(now_s) - WEEK_S
    is_counted = (times >= earliest_s) & ~np.isin(signals, [int(signal) for signal in AGAINST])
    times, keys = times[is_counted], keys[is_counted]
    starts = (times - MONDAY_S) // WEEK_S * WEEK_S + MONDAY_S
    weights = np.exp((times - starts) / TRENDING_TAU_S)
    weeks: dict[int, dict[int, float]] = {}
    for start_s in np.unique(starts).tolist():
        own, place = np.unique(keys[starts == start_s], return_inverse=True)
        total = np.bincount(place, weights[starts == start_s])
        weeks[start_s] = dict(zip(own.tolist(), total.tolist(), strict=True))
    return weeks


async def replace(redis: Redis, weeks: Mapping[int, Mapping[int, float]]) -> None:
    """Puts weights in the place of what is there; of each week the heaviest TRENDING_ITEMS_MAX."""
    async with redis.pipeline(transaction=False) as pipeline:
        for start_s, week in weeks.items():
            heaviest = sorted(week.items(), key=lambda pair: -pair[1])[:TRENDING_ITEMS_MAX]
            pipeline.delete(trending_key(start_s))
            pipeline.zadd(trending_key(start_s), {str(item): weight for item, weight in heaviest})
            pipeline.expire(trending_key(start_s), TRENDING_TTL_S)
        await pipeline.execute()


async def read_trending(redis: Redis, now_s: float, n: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Item keys (m,) and scores (m,), m <= n, highest first. A score is the count of events, each faded since."""
    this_s = week_start_s(now_s)
    weeks = (this_s, this_s - WEEK_S)
    async with redis.pipeline(transaction=False) as pipeline:
        for start_s in weeks:
            pipeline.zrange(trending_key(start_s), 0, n - 1, desc=True, withscores=True)
        read = await pipeline.execute()
    scores: dict[int, float] = {}
    for start_s, members in zip(weeks, read, strict=True):
        fade = math.exp(-(now_s - start_s) / TRENDING_TAU_S)
        for member, weight in members:
            scores[int(member)] = scores.get(int(member), 0.0) + float(weight) * fade
    best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:n]
    return np.array([key for key, _ in best], np.int32), np.array([score for _, score in best], np.float32)


def week_start_s(time_s: float) -> int:
    """Unix seconds of the Monday, 00:00 UTC, before `time_s`."""
    return int((time_s - MONDAY_S) // WEEK_S) * WEEK_S + MONDAY_S


def trending_key(start_s: int) -> str:
    """The key of a week, e.g. reco:trending:2026-W48."""
    year, week, _ = datetime.fromtimestamp(start_s, UTC).isocalendar()
    return f"reco:trending:{year}-W{week:02}"
