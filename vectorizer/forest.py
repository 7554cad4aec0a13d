"""Scores of an oblivious forest, feature-major: each level of a tree is one pass along a feature's row."""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.model import Float32, Int32


@njit(cache=True, nogil=True)
def score_forest(
    features: Float32,
    tested: Int32,
    borders: Float32,
    leaves: Float32,
    bias: float,
    leaf: Int32,
    scores: np.ndarray,
) -> None:
    """Writes bias plus the sum of each tree's leaf to `scores`.

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
