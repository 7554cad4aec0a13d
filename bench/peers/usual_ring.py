"""A user's events in Redis as the usual stack keeps them: one numpy record each, packed, under a key of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.dataset import Dataset
from bench.generate.attributes import user_id

EVENT = np.dtype([("row", "<i4"), ("time", "<u4"), ("code", "u1")])  # 9 bytes
LOAD_COUNT = 1_000  # users a pipeline
Ring = NDArray[np.void]


def key_of(user: str) -> str:
    """The Redis key."""
    return f"usual:ring:{user}"


def decode(packed: Any) -> Ring:
    """(m,) records, oldest first, from Redis' bytes; none from None, for an unknown user."""
    return np.frombuffer(packed or b"", dtype=EVENT)


def ring_of(data: Dataset, user: int) -> Ring:
    """The events of a generated user."""
    where = data.events.of(user)
    ring = np.empty(where.stop - where.start, dtype=EVENT)
    ring["row"], ring["time"], ring["code"] = (
        data.events.rows[where], data.events.times[where], data.events.codes[where],
    )  # fmt: skip
    return ring


def load(data: Dataset, redis: Any) -> int:
    """Writes every user's ring through a `redis.Redis`; returns how many."""
    users = len(data.events.offsets) - 1
    for at in range(0, users, LOAD_COUNT):
        pipeline = redis.pipeline(transaction=False)
        for user in range(at, min(at + LOAD_COUNT, users)):
            pipeline.set(key_of(user_id(user)), ring_of(data, user).tobytes())
        pipeline.execute()
    return users
