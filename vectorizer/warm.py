"""Compiles (or loads from numba's cache) every kernel before the first request waits for it."""

from __future__ import annotations

import numpy as np

from vectorizer.model import ModelArrays, empty_forest
from vectorizer.request import gather, score, vectorize
from vectorizer.workspace import Workspace


def warm_up() -> None:
    """Runs each stage once over a model of two items."""
    model = _tiny_model()
    workspace = Workspace(model)
    rows = np.zeros(1, dtype=np.int32)
    codes, times = np.ones(1, dtype=np.uint8), np.ones(1, dtype=np.uint32)
    vector = vectorize(rows, codes, times, model, workspace)
    candidates = gather(rows, codes, times, vector, model, workspace).rows
    score(candidates, rows, codes, times, 2, vector, model, workspace)


def _tiny_model() -> ModelArrays:
    n, d = 2, 2
    lists = np.array([[1], [0]], dtype=np.int32)
    ones = np.ones(n, dtype=np.float32)
    forest = empty_forest()
    forest["forest_features"] = np.zeros((1, 1), dtype=np.int32)
    forest["forest_borders"] = np.zeros((1, 1), dtype=np.float32)
    forest["forest_leaves"] = np.zeros((1, 2), dtype=np.float32)
    return ModelArrays(
        item_keys=np.arange(n, dtype=np.int32),
        popularity=ones,
        popularity_order=np.arange(n, dtype=np.int32),
        factors=np.eye(n, d, dtype=np.float32),
        factor_norms=ones,
        gram=np.eye(d, dtype=np.float32),
        neighbours=lists,
        neighbour_weights=ones.reshape(n, 1),
        transitions=lists,
        transition_weights=ones.reshape(n, 1),
        categories=np.ones(n, dtype=np.uint64),
        released=ones,
        liking=ones,
        first_times=np.zeros(n, dtype=np.uint32),
        bucket_counts=np.zeros((n, 2), dtype=np.float32),
        bucket_totals=np.zeros(2, dtype=np.float32),
        params={
            "decay": 0.2,
            "decay_slow": 0.03,
            "decay_fast": 1.0,
            "confidence": 1.0,
            "bucket_start_s": 0,
            "bucket_width_s": 1,
            "forest_bias": 0.0,
        },
        **forest,
    )
