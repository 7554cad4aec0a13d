"""Scores of candidates: the vectorizer's or the forest's where the model knows the item, a place in between where not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving import limits
from serving.candidates import NEW, NO_PRODUCTS, Candidates, Personal
from serving.model import LoadedModel
from serving.trending import TrendingList
from vectorizer import score

Scores = NDArray[np.float32]
STEP_DOWN = np.float32(1e-6)  # between items that nothing tells apart


def rank(
    candidates: Candidates,
    personal: Personal,
    model: LoadedModel,
    trending: TrendingList,
    time_s: float,
    products: Scores = NO_PRODUCTS,
) -> Scores:
    """(k,) float32, higher is better. `gather` or `prepare` of the same ring must have run just before.

    products (k,) float32 are inner products of the user's vector with those that new items have beside the model, NaN where
    there is none; empty: nobody has one.
    """
    known = candidates.rows >= 0
    if known.all():
        return _modelled(candidates.keys, candidates.rows, personal, model, trending, time_s)
    scores = np.empty(len(candidates.keys), dtype=np.float32)
    rows = candidates.rows[known]
    scores[known] = _modelled(candidates.keys[known], rows, personal, model, trending, time_s)
    own = model.arrays.factors[rows] @ personal.vector if len(products) else NO_PRODUCTS
    _place_others(scores, known, candidates, products, own)
    return scores


def in_order_of_retrieval(
    candidates: Candidates, personal: Personal, model: LoadedModel, products: Scores = NO_PRODUCTS
) -> Scores:
    """(k,) float32, where there is no time for the ranker: by inner product, and popularity for nobody in particular."""
    known = candidates.rows >= 0
    scores = np.empty(len(candidates.keys), dtype=np.float32)
    rows = candidates.rows[known]
    arrays = model.arrays
    scores[known] = arrays.factors[rows] @ personal.vector if personal.found else arrays.popularity[rows]
    _place_others(scores, known, candidates, products, scores[known])
    return scores


def _place_others(
    scores: Scores, known: NDArray[np.bool_], candidates: Candidates, products: Scores, own: Scores
) -> None:
    """Writes the scores of what the model does not know, among those of what it does: own (n,) are its inner products.

    What is new in the catalogue is shown at a known cost whatever is expected of it; where more is expected, it stands higher.
    """
    unknown = ~known
    near = unknown & ~np.isnan(products) if len(products) else np.zeros(len(known), dtype=np.bool_)
    between = unknown & (~near | (candidates.bits & NEW != 0))
    modelled = scores[known]
    scores[unknown] = -np.inf
    scores[between] = places_between(modelled, int(np.count_nonzero(between)))
    if near.any():
        scores[near] = np.maximum(scores[near], like_their_equals(products[near], own, modelled))


def like_their_equals(products: Scores, own: Scores, scores: Scores) -> Scores:
    """(c,) float32: for each product the score that stands where the product stands among `own` (k,), of the same items as `scores`.

    What the ranker looks at is not known of a new item; what is known of it puts it among the others. Between two of them it
    lies between; beyond them all it is worth as much as the outermost.
    """
    if not len(own):
        return products
    return np.interp(products, np.sort(own), np.sort(scores)).astype(np.float32)


def _modelled(
    keys: NDArray[np.int32],
    candidate_rows: NDArray[np.int32],
    personal: Personal,
    model: LoadedModel,
    trending: TrendingList,
    time_s: float,
) -> Scores:
    ring = personal.ring
    scores = score(
        candidate_rows,
        personal.rows,
        ring.codes,
        ring.times,
        int(time_s),
        personal.vector,
        model.arrays,
        model.workspace,
    )
    if not personal.found:
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
