"""The request's stages over one user's ring: vectorize, gather, score. Serving calls them once, training replays them.

A ring is three parallel arrays, oldest first: rows (m,) int32 item rows of the model with -1 for items that it does
not know, codes (m,) uint8 signal codes, times (m,) uint32 unix seconds. At most RING_EVENT_COUNT_MAX of the newest
events are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorizer import limits, sources
from vectorizer.features import fill_features
from vectorizer.foldin import event_weights, fold_in
from vectorizer.forest import score_forest
from vectorizer.model import Float32, Int32, ModelArrays
from vectorizer.signals import SIGNAL_LIKINGS, SIGNAL_WEIGHTS
from vectorizer.sources import accumulate, best_accumulated, best_personal, clear, merge
from vectorizer.workspace import Workspace

Codes = NDArray[np.uint8]
Times = NDArray[np.uint32]
NO_ROWS: Int32 = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class Candidates:
    """What `gather` found: rows (k,) int32 and sources (k,) uint8, a bit for each source that named the row."""

    rows: Int32
    sources: NDArray[np.uint8]


def vectorize(rows: Int32, codes: Codes, times: Times, model: ModelArrays, workspace: Workspace) -> Float32:
    """The user's vector, (d,) float32, all zeros when no event of the ring counts. A fresh array."""
    decay = np.float32(model.params["decay"])
    _fold(rows, codes, model, workspace, decay, workspace.vector)
    return workspace.vector.copy()


def _fold(
    rows: Int32, codes: Codes, model: ModelArrays, workspace: Workspace, decay: np.float32, out: Float32
) -> None:
    rows, codes = rows[-limits.RING_EVENT_COUNT_MAX :], codes[-limits.RING_EVENT_COUNT_MAX :]
    weights = workspace.weights[: len(rows)]
    event_weights(codes, SIGNAL_WEIGHTS, np.float32(model.params["confidence"]), decay, weights)
    fold_in(rows, weights, model.factors, model.gram, workspace.matrix, out)


def prepare(rows: Int32, codes: Codes, model: ModelArrays, workspace: Workspace) -> None:
    """Adds the ring's sparse lists up in the workspace: `gather` does it, `score` of a caller's own rows needs it."""
    rows, codes = rows[-limits.RING_EVENT_COUNT_MAX :], codes[-limits.RING_EVENT_COUNT_MAX :]
    clear(workspace.sums, workspace.touched, workspace.touched_count)
    workspace.touched_count = accumulate(
        rows,
        SIGNAL_LIKINGS[codes],
        model.transitions,
        model.transition_weights,
        model.neighbours,
        model.neighbour_weights,
        workspace.sums,
        workspace.touched,
    )


def gather(
    rows: Int32,
    codes: Codes,
    times: Times,
    vector: Float32,
    model: ModelArrays,
    workspace: Workspace,
    excluded_rows: Int32 = NO_ROWS,
    personal_rows: Int32 | None = None,
) -> Candidates:
    """The union of the sources: personal, transition, similar, filled up with popular. The ring's items are left out.

    `excluded_rows` (e,) int32 known rows are left out too. `personal_rows` (p,) int32 is an index's answer that stands
    for the exact scan; it has to leave out what is excluded.
    """
    prepare(rows, codes, model, workspace)
    _exclude(rows, excluded_rows, workspace, 1)
    try:
        return _union(vector, model, workspace, personal_rows)
    finally:
        _exclude(rows, excluded_rows, workspace, 0)


def _exclude(rows: Int32, excluded_rows: Int32, workspace: Workspace, value: int) -> None:
    workspace.excluded[rows[rows >= 0]] = value
    workspace.excluded[excluded_rows] = value


def _union(
    vector: Float32, model: ModelArrays, workspace: Workspace, personal_rows: Int32 | None
) -> Candidates:
    w, size = workspace, 0
    if vector.any():
        found = _personal(vector, model, w) if personal_rows is None else personal_rows
        size = merge(found, len(found), sources.PERSONAL, w.marks, w.candidates, size)
    size = _merge_accumulated(
        w, sources.TRANSITION_SLOW, sources.TRANSITION, limits.TRANSITION_COUNT_MAX, size
    )
    size = _merge_accumulated(w, sources.SIMILAR_SLOW, sources.SIMILAR, limits.SIMILAR_COUNT_MAX, size)
    if size < limits.POPULAR_COUNT_MIN:
        found = _popular(model, w, limits.POPULAR_COUNT_MIN - size)
        size = merge(found, len(found), sources.POPULAR, w.marks, w.candidates, size)
    found = w.candidates[:size].copy()
    marks = w.marks[found]
    w.marks[found] = 0
    return Candidates(found, marks)


def _personal(vector: Float32, model: ModelArrays, w: Workspace) -> Int32:
    size = best_personal(vector, model.factors, w.excluded, w.best_scores, w.best_rows)
    return w.best_rows[:size]


def _merge_accumulated(w: Workspace, column: int, bit: int, limit: int, size: int) -> int:
    scores, rows = w.best_scores[:limit], w.best_rows[:limit]
    found = best_accumulated(w.sums, w.touched, w.touched_count, column, w.excluded, scores, rows)
    return int(merge(rows, found, bit, w.marks, w.candidates, size))


def _popular(model: ModelArrays, w: Workspace, count: int) -> Int32:
    # What is excluded or already gathered stands at the head of the list at worst: look past as many.
    hidden = int(np.count_nonzero(w.excluded)) + limits.GATHERED_COUNT_MAX
    head = model.popularity_order[: count + hidden]
    free: Int32 = head[(w.excluded[head] == 0) & (w.marks[head] == 0)]
    return free[:count]


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
    _fold(rows, codes, model, workspace, np.float32(model.params["decay_slow"]), workspace.slow_vector)
    _fold(rows, codes, model, workspace, np.float32(model.params["decay_fast"]), workspace.fast_vector)
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
        workspace.slow_vector,
        workspace.fast_vector,
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
