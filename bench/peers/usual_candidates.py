"""The usual stack's user vectors and candidates in numpy: BLAS, LAPACK, gathers and sorts, no loop over items or events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.peers.usual_index import Index
from bench.peers.usual_ring import Ring
from vectorizer import limits
from vectorizer.model import ModelArrays
from vectorizer.signals import SIGNAL_LIKINGS, SIGNAL_WEIGHTS
from vectorizer.sources import DECAY_FAST, DECAY_LONG, DECAY_SLOW, SIMILAR_SLOW, TRANSITION_SLOW

Rows = NDArray[np.int32]


@dataclass(frozen=True)
class Lists:
    """What the recent events' lists add up to: rows (u,) ascending, sums (u, 8) with the columns of vectorizer.sources."""

    rows: Rows
    sums: NDArray[np.floating]

    def of(self, rows: Rows) -> NDArray[np.floating]:
        """(k, 8): the sums of any rows, 0 where there are none."""
        if not len(self.rows):
            return np.zeros((len(rows), 8))
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where((self.rows[at] == rows)[:, None], self.sums[at], 0.0)


def vectors(ring: Ring, model: ModelArrays) -> NDArray[np.float32]:
    """(3, d): the folded-in vector with the usual, the slow and the fast decay; zeros when no event counts."""
    weight = SIGNAL_WEIGHTS[ring["code"] & 15]
    counted = weight > 0
    if not counted.any():
        return np.zeros((3, model.factor_count), dtype=np.float32)
    positions = np.arange(len(ring) - 1, -1, -1, dtype=np.float32)[counted]
    decays = np.array(
        [model.params[name] for name in ("decay", "decay_slow", "decay_fast")], dtype=np.float32
    )
    confidence = (
        np.float32(model.params["confidence"]) * weight[counted] * np.exp(-decays[:, None] * positions)
    )
    items = model.factors[ring["row"][counted]]
    matrices = model.gram + (items.T * confidence[:, None, :]) @ items
    right = (1 + confidence) @ items
    return np.asarray(np.linalg.solve(matrices, right[:, :, None])[:, :, 0])


def lists(ring: Ring, model: ModelArrays) -> Lists:
    """Adds up the transitions and neighbours of the ring's items."""
    rows = ring["row"]
    positions = np.arange(len(rows) - 1, -1, -1)
    last, fast, slow, long = (
        (positions == 0).astype(np.float64),
        *(np.exp(-d * positions) for d in (DECAY_FAST, DECAY_SLOW, DECAY_LONG)),
    )
    liked = long * SIGNAL_LIKINGS[ring["code"] & 15]
    found = np.concatenate([model.transitions[rows].ravel(), model.neighbours[rows].ravel()])
    names, places = np.unique(found, return_inverse=True)
    split = len(rows) * model.transitions.shape[1]
    columns = [
        np.bincount(where, weights=(weights * decay[:, None]).ravel(), minlength=len(names))
        for where, weights, decays in (
            (places[:split], model.transition_weights[rows], (last, fast, slow)),
            (places[split:], model.neighbour_weights[rows], (last, fast, slow, long, liked)),
        )
        for decay in decays
    ]
    known = int(np.searchsorted(names, 0))  # -1 stands for no item
    return Lists(
        names[known:].astype(np.int32), np.stack(columns, axis=1).astype(np.float64, copy=False)[known:]
    )


def candidates(
    seen: Rows, vector: NDArray[np.float32], found: Lists, model: ModelArrays, index: Index
) -> Rows:
    """(k,) distinct rows, at most CANDIDATE_LIMIT: each source's quota, then who has more, then popular ones."""
    near = np.zeros(0, dtype=np.int32)
    if vector.any():
        near = index.nearest(vector, limits.PERSONAL_COUNT_MAX + len(seen))
        near = near[~np.isin(near, seen)][: limits.PERSONAL_COUNT_MAX]
    free = ~np.isin(found.rows, seen)
    next_, like = (_best(found, free, column) for column in (TRANSITION_SLOW, SIMILAR_SLOW))
    quotas = ((near, limits.PERSONAL_QUOTA), (next_, limits.TRANSITION_QUOTA), (like, limits.SIMILAR_QUOTA))
    rows = _distinct(np.concatenate([part[:quota] for part, quota in quotas] + [near, next_, like]))
    if len(rows) < limits.CANDIDATE_LIMIT:
        popular = model.popularity_order[: limits.CANDIDATE_LIMIT + len(rows) + len(seen)]
        rows = _distinct(np.concatenate([rows, popular[~np.isin(popular, seen)]]))
    return rows[: limits.CANDIDATE_LIMIT]


def _best(found: Lists, free: NDArray[np.bool_], column: int) -> Rows:
    sums = np.where(free, found.sums[:, column], 0.0)
    best = np.argsort(-sums, kind="stable")[: limits.CANDIDATE_LIMIT]
    return found.rows[best[sums[best] > 0]]


def _distinct(rows: Rows) -> Rows:
    return rows[np.sort(np.unique(rows, return_index=True)[1])]
