"""Scores of candidates: the vectorizer's or the forest's where the model knows the item, a place in between where not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving import limits
from serving.candidates import Candidates
from serving.model import LoadedModel
from serving.profile import Ring
from serving.trending import TrendingList
from vectorizer import score

Scores = NDArray[np.float32]
STEP_DOWN = np.float32(1e-6)  # between items that nothing tells apart


def rank(
    candidates: Candidates,
    ring: Ring,
    rows: NDArray[np.int32],
    vector: NDArray[np.float32],
    model: LoadedModel,
    trending: TrendingList,
    time_s: float,
) -> Scores:
    """(k,) float32, higher is better. `gather` or `prepare` of the same ring must have run just before."""
    known = candidates.rows >= 0
    if known.all():
        return _modelled(candidates.keys, candidates.rows, ring, rows, vector, model, trending, time_s)
    scores = np.empty(len(candidates.keys), dtype=np.float32)
    scores[known] = _modelled(
        candidates.keys[known], candidates.rows[known], ring, rows, vector, model, trending, time_s
    )
    scores[~known] = places_between(scores[known], int(np.count_nonzero(~known)))
    return scores


def _modelled(
    keys: NDArray[np.int32],
    candidate_rows: NDArray[np.int32],
    ring: Ring,
    rows: NDArray[np.int32],
    vector: NDArray[np.float32],
    model: LoadedModel,
    trending: TrendingList,
    time_s: float,
) -> Scores:
    scores = score(
        candidate_rows, rows, ring.codes, ring.times, int(time_s), vector, model.arrays, model.workspace
    )
    if not vector.any():
        # Nobody in particular: what is popular always, plus what is popular today, as shares of all events.
        scores += trending_shares(keys, trending)
    return scores


def places_between(scores: Scores, count: int) -> Scores:
    """Scores for `count` items that no model can score: one stands behind every NEW_STEP_COUNT - 1 of the others.

    So a new item is shown, and learnt about, at a known cost. Behind the last one where the others end.
    """
    if not len(scores):
        return -STEP_DOWN * np.arange(count, dtype=np.float32)
    ordered = -np.sort(-scores)
    places = (limits.NEW_STEP_COUNT - 1) * np.arange(1, count + 1) - 1
    beyond = np.maximum(places - (len(ordered) - 1), 0).astype(np.float32)
    return np.asarray(ordered[np.minimum(places, len(ordered) - 1)] - STEP_DOWN * beyond, dtype=np.float32)


def trending_shares(keys: NDArray[np.int32], trending: TrendingList) -> Scores:
    """(k,) float32: each key's share of what trends, 0 where it does not."""
    shares = np.zeros(len(keys), dtype=np.float32)
    if len(trending.keys):
        order = np.argsort(trending.keys)
        at = order[np.minimum(np.searchsorted(trending.keys, keys, sorter=order), len(order) - 1)]
        hit = trending.keys[at] == keys
        shares[hit] = trending.shares[at[hit]]
    return shares


def ranks_in_order(count: int) -> Scores:
    """(count,) float32 from 1 down to above 0: scores of what is in order already."""
    return np.linspace(1.0, 0.0, count, endpoint=False, dtype=np.float32)
