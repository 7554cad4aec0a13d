"""Seeded events with something to learn: each user likes one group of items and walks through it in order."""

from __future__ import annotations

import numpy as np

from profiles.signals import Signal
from training.config import BaseConfig, Config, RankerConfig
from training.dataset import Dataset, Items, build

GROUP_COUNT = 4

BASE = BaseConfig(factor_count=8, iteration_count=5, neighbour_count=10, transition_count=10, thread_count=1)
RANKER = RankerConfig(
    loss="QuerySoftMax", tree_count=20, depth=4, window_count=4, group_count_max=400, negative_count=10,
    thread_count=1,
)  # fmt: skip
CONFIG = Config(base=BASE, ranker=RANKER)


def synthetic_dataset(user_count: int = 60, item_count: int = 80, seed: int = 1, length: int = 20) -> Dataset:
    """About user_count * length events over a month."""
    rng = np.random.default_rng(seed)
    users, rows, times = [], [], []
    for user in range(user_count):
        group = rng.integers(GROUP_COUNT)
        start = rng.integers(30 * 86_400)
        items = np.arange(group, item_count, GROUP_COUNT)
        first = rng.integers(len(items))
        walk = np.roll(items, -first)[: min(length, len(items))]
        users += [user] * len(walk)
        rows += walk.tolist()
        times += (1_000_000 + start + np.arange(len(walk)) * 300).tolist()
    return dataset_of(users, rows, times, item_count=item_count)


def dataset_of(users, rows, times, codes=None, item_count=None, keys=None) -> Dataset:
    """A data set of plain lists."""
    count = item_count or (max(rows, default=-1) + 1)
    codes = [int(Signal.CLICK)] * len(users) if codes is None else codes
    keys = np.arange(count, dtype=np.int32) * 3 if keys is None else np.array(keys, dtype=np.int32)
    categories = (np.uint64(1) << (np.arange(count, dtype=np.uint64) % np.uint64(GROUP_COUNT))).astype(
        np.uint64
    )
    released = (1990 + np.arange(count) % 10).astype(np.float32)
    return build(
        np.array(users, dtype=np.int32),
        np.array(rows, dtype=np.int32),
        np.array(codes, dtype=np.uint8),
        np.array(times, dtype=np.int64),
        max(users, default=-1) + 1,
        Items(keys, categories, released),
    )
