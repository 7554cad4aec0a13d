"""Items like an item: its neighbour list, filled up by factor cosine where the catalogue is small enough to be scanned."""

from __future__ import annotations

import numpy as np

from vectorizer.model import Float32, Int32, ModelArrays

SCANNED_ITEMS_MAX = (
    50_000  # all cosines with one item take about a millisecond; beyond, retrieval fills the list up
)


def similar_items(row: int, count: int, model: ModelArrays) -> tuple[Int32, Float32]:
    """At most `count` rows like `row`, best first, and their scores: (k,) int32, (k,) float32; never `row` itself.

    Neighbours come first, with scores above 1; factor cosines (-1..1) follow where the list is short and there are at
    most SCANNED_ITEMS_MAX items.
    """
    listed = model.neighbours[row]
    size = min(int(np.count_nonzero(listed >= 0)), count)
    near, weights = listed[:size], model.neighbour_weights[row, :size] + np.float32(1.0)
    if size == count or model.item_count > SCANNED_ITEMS_MAX:
        return near.copy(), weights
    far, cosines = _nearest(row, near, count - size, model)
    return np.concatenate([near, far]), np.concatenate([weights, cosines])


def _nearest(row: int, known: Int32, count: int, model: ModelArrays) -> tuple[Int32, Float32]:
    norms = np.maximum(model.factor_norms * model.factor_norms[row], np.float32(1e-12))
    cosines = (model.factors @ model.factors[row]) / norms
    cosines[known] = -np.inf
    cosines[row] = -np.inf
    cosines[model.factor_norms == 0] = -np.inf
    best = np.argsort(-cosines, kind="stable")[:count]
    best = best[np.isfinite(cosines[best])]
    return best.astype(np.int32), cosines[best]
