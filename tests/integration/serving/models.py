"""Small real models: seeded factors with lists that follow from them."""

from __future__ import annotations

import numpy as np

from vectorizer.model import ModelArrays, empty_forest

LIST_COUNT = 10


def make_model(keys: np.ndarray, seed: int = 1, factor_count: int = 8, ranked: bool = True) -> ModelArrays:
    """A model of `keys` (n,): its first items are its most popular ones."""
    n, random = len(keys), np.random.default_rng(seed)
    factors = random.normal(size=(n, factor_count)).astype(np.float32) * np.float32(0.3)
    neighbours, weights = _lists(factors)
    popularity = np.linspace(2, 1, n).astype(np.float32)
    bucket_counts = np.tile(np.arange(4, dtype=np.float32), (n, 1))
    params = {
        "decay": 0.2,
        "decay_slow": 0.03,
        "decay_fast": 1.0,
        "confidence": 10.0,
        "bucket_start_s": 0,
        "bucket_width_s": 86_400,
    }
    return ModelArrays(
        item_keys=keys.astype(np.int32),
        popularity=popularity / popularity.sum(),
        popularity_order=np.arange(n, dtype=np.int32),
        factors=factors,
        factor_norms=np.linalg.norm(factors, axis=1).astype(np.float32),
        gram=(factors.T @ factors + 5 * np.eye(factor_count)).astype(np.float32),
        neighbours=neighbours,
        neighbour_weights=weights,
        transitions=neighbours,
        transition_weights=weights,
        categories=np.left_shift(np.uint64(1), (keys % 8).astype(np.uint64)),
        released=np.full(n, 1990, dtype=np.float32),
        liking=np.zeros(n, dtype=np.float32),
        first_times=np.zeros(n, dtype=np.uint32),
        bucket_counts=bucket_counts,
        bucket_totals=bucket_counts.sum(axis=0),
        params={**params, "forest_bias": 0.0},
        **(_forest(random) if ranked else empty_forest()),
    )


def _lists(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    near = factors @ factors.T
    np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1, kind="stable")[:, :LIST_COUNT].astype(np.int32)
    weights = np.maximum(np.take_along_axis(near, order, axis=1), 0.01).astype(np.float32)
    return order, weights


def _forest(random: np.random.Generator) -> dict[str, np.ndarray]:
    # Two levels of `personal` and `similar_slow`: more of either is better, as a trained ranker finds too.
    trees = 20
    return {
        "forest_features": np.tile(np.array([[0, 8]], dtype=np.int32), (trees, 1)),
        "forest_borders": np.sort(random.normal(size=(trees, 2)).astype(np.float32) * 0.3, axis=0),
        "forest_leaves": np.tile(np.array([[0, 1, 0.5, 1.5]], dtype=np.float32), (trees, 1)),
    }
