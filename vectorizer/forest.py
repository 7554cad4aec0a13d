"""Scores of an oblivious forest over feature-major rows: by registers where the processor has them, else level by level."""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.model import Float32, Int32
from vectorizer.tree_lanes import (
    LEAF_COUNT_MAX,
    LEAF_COUNT_MIN,
    PART_COUNT,
    WIDTH,
    is_wide,
    score_one,
    score_parts,
)


@njit(cache=True, nogil=True)
def score_forest_plain(
    features: Float32,
    tested: Int32,
    borders: Float32,
    leaves: Float32,
    bias: float,
    leaf: Int32,
    scores: np.ndarray,
) -> None:
    """Writes bias plus the sum of each tree's leaf to `scores`; each level of a tree is one pass along a feature's row.

    features (F, k) float32, free of NaN; tested (t, p) int32, borders (t, p) float32, leaves (t, 2**p) float32;
    leaf (k,) int32 and scores (k,) float64 are the caller's and are overwritten.
    """
    count = features.shape[1]
    for c in range(count):
        scores[c] = bias
    for t in range(tested.shape[0]):
        for c in range(count):
            leaf[c] = 0
        for level in range(tested.shape[1]):
            row = features[tested[t, level]]
            border = borders[t, level]
            bit = np.int32(1 << level)
            for c in range(count):
                leaf[c] |= bit if row[c] > border else np.int32(0)
        values = leaves[t]
        for c in range(count):
            scores[c] += values[leaf[c]]


@njit(cache=True, nogil=True)
def _score_forest_wide(
    features: Float32,
    tested: Int32,
    borders: Float32,
    leaves: Float32,
    bias: float,
    leaf: Int32,
    scores: np.ndarray,
) -> None:
    """As score_forest_plain, bit by bit."""
    count = features.shape[1]
    if count < WIDTH or not LEAF_COUNT_MIN <= leaves.shape[1] <= LEAF_COUNT_MAX:
        score_forest_plain(features, tested, borders, leaves, bias, leaf, scores)
        return
    done = 0
    while count - done >= WIDTH * PART_COUNT:
        score_parts(features, np.uint64(done), tested, borders, leaves, bias, scores)
        done += WIDTH * PART_COUNT
    while done < count:
        at = min(done, count - WIDTH)  # the last ones again, rather than singly
        score_one(features, np.uint64(at), tested, borders, leaves, bias, scores)
        done = at + WIDTH


score_forest = _score_forest_wide if is_wide() else score_forest_plain
