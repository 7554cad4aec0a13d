"""What trends, in the store as ingest leaves it: the data set's newest weeks, moved so that its last event is of now.

Told anew at every start: what trended on the day when the stores were filled no longer does.
"""

from __future__ import annotations

import asyncio
import heapq
import time

import numpy as np
from redis.asyncio import Redis

from bench.dataset import Dataset
from profiles.limits import TRENDING_ITEMS_MAX
from profiles.trending import WEEK_S, add, counts, trending_key

SPAN_S = 2 * WEEK_S  # older ones don't count (profiles/trending.py)


def fill(dataset: Dataset, redis_url: str) -> None:
    """Replaces the lists of this week and of the last one."""
    asyncio.run(_fill(redis_url, weeks(dataset, time.time())))


def weeks(dataset: Dataset, now_s: float) -> dict[int, dict[int, float]]:
    """Weights by week and item key, the heaviest of each week, as if the data set's last event were of `now_s`."""
    events, keys = dataset.events, np.asarray(dataset.model.item_keys)
    times = np.asarray(events.times, dtype=np.float64)
    times += now_s - times.max()
    new = np.flatnonzero(times > now_s - SPAN_S)
    columns = times[new].tolist(), events.codes[new].tolist(), keys[events.rows[new]].tolist()
    found = counts(list(zip(*columns, strict=True)), now_s)
    return {start_s: _heaviest(week) for start_s, week in found.items()}


def _heaviest(week: dict[int, float]) -> dict[int, float]:
    # What `add` would drop again need not be sent.
    return dict(heapq.nlargest(TRENDING_ITEMS_MAX, week.items(), key=lambda pair: pair[1]))


async def _fill(redis_url: str, found: dict[int, dict[int, float]]) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(*(trending_key(start_s) for start_s in found))
        await add(redis, found)
