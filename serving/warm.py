"""Compiles every kernel before the first request needs it, or loads it from numba's cache."""

from __future__ import annotations

import numpy as np

from profiles.codec import decode, merge, pack_event
from profiles.signals import Signal
from serving import kernels, tokens
from vectorizer import warm_up as warm_up_vectorizer


def warm_up() -> None:
    """Blocks: seconds with a cache, a minute without."""
    warm_up_vectorizer()
    decode(merge(None, np.array([pack_event(1, Signal.VIEW, 1)], dtype=np.uint64), 1))
    keys, ones = np.zeros(1, dtype=np.int32), np.ones(1, dtype=np.float32)
    marks, mask, slots = np.zeros(1, dtype=np.uint8), np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.int32)
    kernels.mark_lists(
        np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int32), keys, np.int32(0), mask.copy()
    )
    kernels.rows_of(keys, keys, slots.copy())
    kernels.mark_keys(keys, np.uint8(0), marks)
    for merge_into in (kernels.merge_keys, kernels.fill_keys):
        size = merge_into(keys, np.uint8(1), 1, mask, marks, slots, keys.copy(), marks.copy(), 0)
        kernels.clear_slots(keys, size, slots)
    likes = np.ones(1, dtype=np.uint64)
    factors, chosen = np.ones((1, 1), dtype=np.float32), np.zeros(1, dtype=np.int64)
    kernels.select_diverse(ones, factors, ones, keys, likes, 0.5, np.zeros(1), chosen)
    tokens.read_page_token(tokens.make_page_token(keys, 0), 0)
