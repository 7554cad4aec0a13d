"""The request's stages over one user's ring: vectorize, gather, score. Serving calls them once, training replays them.

A ring is three parallel arrays, oldest first: rows (m,) int32 item rows of the model with -1 for items that it does
not know, codes (m,) uint8 signal codes, times (m,) uint32 unix seconds. At most RING_EVENT_COUNT_MAX of the newest
events are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorizer import limits
from vectorizer.features import fill_features
from vectorizer.foldin import event_weights, fold_in
from vectorizer.forest import score_forest
from vectorizer.model import Float32, Int32, ModelArrays
from vectorizer.signals import SIGNAL_LIKINGS, SIGNAL_WEIGHTS
from vectorizer.sources import accumulate, best_personal, block, unite
from vectorizer.workspace import Workspace

Codes = NDArray[np.uint8]
Times = NDArray[np.uint32]
Mask = NDArray[np.uint8]
NO_ROWS: Int32 = np.zeros(0, dtype=np.int32)
NO_MASK: Mask = np.zeros(0, dtype=np.uint8)  # nothing is hidden


# An argument, not a constant of the kernel: numba's cache would keep the old one when limits.py changes.
QUOTAS: Int32 = np.array(
    [limits.PERSONAL_QUOTA, limits.TRANSITION_QUOTA, limits.SIMILAR_QUOTA], dtype=np.int32
)


@dataclass(frozen=True)
class Candidates:
    """What `gather` found: rows (k,) int32 and sources (k,) uint8, a bit for each source that named the row."""

    rows: Int32
    sources: NDArray[np.uint8]


def vectorize(rows: Int32, codes: Codes, times: Times, model: ModelArrays, workspace: Workspace) -> Float32:
    """The user's vector, (d,) float32, all zeros when no event of the ring counts. A fresh array."""
    vector: Float32 = _fold(rows, codes, model, workspace, "decay")[0]
    return vector.copy()


def _fold(rows: Int32, codes: Codes, model: ModelArrays, w: Workspace, *decays: str) -> Float32:
    # (len(decays), d), a view of the workspace: one vector for each of the model's decays that is named.
    rows, codes = rows[-limits.RING_EVENT_COUNT_MAX :], codes[-limits.RING_EVENT_COUNT_MAX :]
    rates = np.array([model.params[name] for name in decays], dtype=np.float32)
    weights, vectors = w.weights[: len(rates)], w.vectors[: len(rates)]
    event_weights(codes, SIGNAL_WEIGHTS, np.float32(model.params["confidence"]), rates, weights)
    fold_in(rows, weights, model.factors, model.gram, w.matrix, w.item, w.roots, vectors)
    return vectors[:, : model.factor_count]


def prepare(rows: Int32, codes: Codes, model: ModelArrays, workspace: Workspace) -> None:
    """Adds the ring's sparse lists up in the workspace: `gather` does it, `score` of a caller's own rows needs it."""
    rows, codes = rows[-limits.RING_EVENT_COUNT_MAX :], codes[-limits.RING_EVENT_COUNT_MAX :]
    lists = (model.transitions, model.transition_weights, model.neighbours, model.neighbour_weights)
    accumulate(rows, SIGNAL_LIKINGS[codes], *lists, *workspace.table)


def gather(
    rows: Int32,
    codes: Codes,
    times: Times,
    vector: Float32,
    model: ModelArrays,
    workspace: Workspace,
    hidden: Mask = NO_MASK,
    blocked_rows: Int32 = NO_ROWS,
    personal_rows: Int32 | None = None,
    quotas: Int32 = QUOTAS,
    limit: int = limits.CANDIDATE_LIMIT,
    popular_rows: Int32 | None = None,
) -> Candidates:
    """The union of the sources, at most `limit` rows: personal, transition, similar, filled up with popular.

    Left out are the ring's rows, rows where `hidden` (n,) uint8 is not zero (NO_MASK hides nothing; it is only read) and
    `blocked_rows` (b,) int32 of this request, -1 among them is skipped; more than BLOCKED_COUNT_MAX cost O(n).
    `personal_rows` (p,) int32, best first, is an index's answer that stands for the exact scan. `quotas` (3,) int32 are what
    personal, transition and similar have room for before the rest is filled up; `limit` is CANDIDATE_LIMIT at most.
    `popular_rows` (q,) int32, most popular first, stand for all rows where it is known which are not hidden: of few, a search among
    all takes a millisecond or two.
    """
    w = workspace
    prepare(rows, codes, model, w)
    if len(blocked_rows) > limits.BLOCKED_COUNT_MAX:
        hidden, blocked_rows = _with_rows(hidden, blocked_rows, model.item_count), NO_ROWS
    block(rows[-limits.RING_EVENT_COUNT_MAX :], *w.table)
    block(blocked_rows, *w.table)
    personal = _personal(vector, model, w, hidden) if personal_rows is None else personal_rows
    personal = personal[: limits.PERSONAL_COUNT_MAX] if vector.any() else NO_ROWS
    room = w.candidates[:limit], w.places[:limit], w.marks[:limit]
    scratch = (*w.table, w.keys, w.spare, w.best_rows, *room)
    popular = model.popularity_order if popular_rows is None else popular_rows
    size = unite(quotas, personal, popular, hidden, *scratch)
    return Candidates(w.candidates[:size].copy(), w.marks[:size].copy())


def _with_rows(hidden: Mask, rows: Int32, item_count: int) -> Mask:
    mask = hidden.copy() if len(hidden) else np.zeros(item_count, dtype=np.uint8)
    mask[rows[rows >= 0]] = 1
    return mask


def _personal(vector: Float32, model: ModelArrays, w: Workspace, hidden: Mask) -> Int32:
    if not vector.any():
        return NO_ROWS
    known = (w.slots, w.state, w.bits)
    size = best_personal(vector, model.factors, hidden, *known, w.keys, w.spare, w.personal_rows)
    return w.personal_rows[:size]


def features(
    candidates: Int32,
    rows: Int32,
    codes: Codes,
    times: Times,
    now: int,
    vector: Float32,
    model: ModelArrays,
    workspace: Workspace,
) -> Float32:
    """FEATURES of the candidates as of `now` (unix seconds): a view of the workspace, (F, k) float32.

    `prepare` or `gather` of the same ring must have run on this workspace before.
    """
    rows, codes = rows[-limits.RING_EVENT_COUNT_MAX :], codes[-limits.RING_EVENT_COUNT_MAX :]
    slow_vector, fast_vector = _fold(rows, codes, model, workspace, "decay_slow", "decay_fast")
    # Contiguous, not workspace.features[:, :k]: along strided rows the forest does not vectorise and takes 17 times as long.
    feature_count, count = len(workspace.features), len(candidates)
    out = workspace.features.reshape(-1)[: feature_count * count].reshape(feature_count, count)
    fill_features(
        candidates,
        rows,
        SIGNAL_LIKINGS[codes],
        times[-limits.RING_EVENT_COUNT_MAX :],
        now,
        vector,
        slow_vector,
        fast_vector,
        workspace.slots,
        workspace.state,
        workspace.sums,
        model.factors,
        model.factor_norms,
        model.popularity,
        model.bucket_counts,
        model.bucket_totals,
        int(model.params["bucket_start_s"]),
        int(model.params["bucket_width_s"]),
        model.first_times,
        model.liking,
        model.released,
        model.categories,
        workspace.queries,
        workspace.products,
        workspace.item,
        out,
    )
    return out


def score(
    candidates: Int32,
    rows: Int32,
    codes: Codes,
    times: Times,
    now: int,
    vector: Float32,
    model: ModelArrays,
    workspace: Workspace,
) -> Float32:
    """The candidates' scores, (k,) float32, higher is better; comparable within one request only.

    By the ranker where the model has one, else by the vectorizer; a user without a vector gets popularity. At most
    CANDIDATE_COUNT_MAX candidates; `prepare` or `gather` of the same ring must have run on this workspace before.
    """
    if not vector.any():
        return model.popularity[candidates]
    if not model.has_ranker:
        return model.factors[candidates] @ vector
    matrix = features(candidates, rows, codes, times, now, vector, model, workspace)
    scores = workspace.scores[: len(candidates)]
    score_forest(
        matrix,
        model.forest_features,
        model.forest_borders,
        model.forest_leaves,
        float(model.params["forest_bias"]),
        workspace.leaf,
        scores,
    )
    return scores.astype(np.float32)
