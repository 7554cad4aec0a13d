"""How good the models are: leave-last-one-out by time, ranked against every item that the user has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.baselines import BASELINES, ScoreUsers
from training.config import Config, Progress, no_progress
from training.dataset import Dataset
from training.fit import fit_base
from training.ranker import fit_ranker
from training.split import Holdout, leave_last_out
from vectorizer import ModelArrays, Workspace, gather, score, vectorize
from vectorizer.limits import RING_EVENT_COUNT_MAX

NDCG_CUT, RECALL_CUT = 10, 100
BLOCK_USER_COUNT = 256  # users whose scores of all items are in memory at a time
LAST = np.iinfo(np.int64).max  # the rank of an item that a model does not know

Ranks = NDArray[np.int64]  # (users evaluated,) int64, 0 is the best place


def evaluate(dataset: Dataset, config: Config, progress: Progress = no_progress) -> dict[str, Any]:
    """Fits and evaluates all models on everything but each user's last event.

    Returns {"data": {"events", "users", "items", "protocol", "users_evaluated"}, "models": {name: {"ndcg_at_10",
    "recall_at_100", "hit_rate_at_10", "fit_s"}}} with the names popularity, item_knn, ease, ials, vectorizer and
    ranker: plain ints and floats. Each user has one relevant item, so recall is the share of users whose item is among
    the first 100 and NDCG@10 the mean of 1 / log2(rank + 2) over the first ten ranks. `fit_s` is wall time in seconds;
    the ranker's does not contain the vectorizer's.
    """
    holdout = leave_last_out(dataset)
    models = {}
    for done, (name, fit) in enumerate(BASELINES.items()):
        progress("baselines", done, len(BASELINES))
        models[name] = _baseline(holdout, partial(fit, holdout.train, config.base))
    progress("baselines", len(BASELINES), len(BASELINES))
    model, base_s = _timed(lambda: fit_base(holdout.train, config.base, progress))
    models["vectorizer"] = figures(model_ranks(holdout, model), base_s)
    forest, ranker_s = _timed(lambda: fit_ranker(holdout.train, config.base, config.ranker, progress))
    models["ranker"] = figures(model_ranks(holdout, model.with_forest(*forest)), ranker_s)
    return {"data": _described(dataset, holdout), "models": models}


def _described(dataset: Dataset, holdout: Holdout) -> dict[str, Any]:
    return {
        "events": len(dataset),
        "users": len(np.unique(dataset.users)),
        "items": len(np.unique(dataset.rows)),
        "protocol": "leave-last-one-out",
        "users_evaluated": len(holdout.test),
    }


def _timed(fit: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    fitted = fit()
    return fitted, time.perf_counter() - started


def figures(ranks: Ranks, fit_s: float) -> dict[str, float]:
    """The metrics of the held-out items' ranks; all zero when there are none."""
    if not len(ranks):
        return {"ndcg_at_10": 0.0, "recall_at_100": 0.0, "hit_rate_at_10": 0.0, "fit_s": float(fit_s)}
    near = ranks < NDCG_CUT
    gains = np.where(near, 1.0 / np.log2(np.minimum(ranks, NDCG_CUT) + 2.0), 0.0)
    return {
        "ndcg_at_10": float(gains.mean()),
        "recall_at_100": float((ranks < RECALL_CUT).mean()),
        "hit_rate_at_10": float(near.mean()),
        "fit_s": float(fit_s),
    }


def _baseline(holdout: Holdout, fit: Callable[[], ScoreUsers]) -> dict[str, float]:
    with threadpool_limits(limits=1, user_api="blas"):
        score_users, fit_s = _timed(fit)
    order, offsets = holdout.train.by_user()
    users, items = holdout.test.users, holdout.test.rows
    ranks = np.empty(len(users), dtype=np.int64)
    for start in range(0, len(users), BLOCK_USER_COUNT):
        scores = score_users(users[start : start + BLOCK_USER_COUNT])
        for at, own in enumerate(scores, start=start):
            seen = holdout.train.rows[order[offsets[users[at]] : offsets[users[at] + 1]]]
            ranks[at] = rank_of(int(items[at]), own, seen)
    return figures(ranks, fit_s)


def rank_of(row: int, scores: NDArray[np.float32], seen: NDArray[np.int32]) -> int:
    """The place of `row` among the items not in `seen`, 0 is the best; of what ties with it, half stands before it."""
    target = scores[row]
    unseen = np.ones(len(scores), dtype=bool)
    unseen[seen] = False
    unseen[row] = False
    above = np.count_nonzero(unseen & (scores > target))
    return int(above + np.count_nonzero(unseen & (scores == target)) // 2)


def model_ranks(holdout: Holdout, model: ModelArrays) -> Ranks:
    """The ranks by the very calls that serving makes; beyond its candidates the vectorizer's order goes on."""
    workspace = Workspace(model)
    rows_in_model = model.rows_of(holdout.train.items.keys)
    order, offsets = holdout.train.by_user()
    ranks = np.full(len(holdout.test), LAST, dtype=np.int64)
    for at, (user, item) in enumerate(zip(holdout.test.users, holdout.test.rows, strict=True)):
        row = int(rows_in_model[item])
        events = order[offsets[user] : offsets[user + 1]]
        if row >= 0:
            now = int(holdout.test.times[at])
            ranks[at] = _rank(row, events, now, holdout.train, rows_in_model, model, workspace)
    return ranks


def _rank(
    row: int,
    events: NDArray[np.int64],
    now: int,
    dataset: Dataset,
    rows_in_model: NDArray[np.int32],
    model: ModelArrays,
    workspace: Workspace,
) -> int:
    seen = rows_in_model[dataset.rows[events]]
    ring = events[-RING_EVENT_COUNT_MAX:]
    rows, codes, times = seen[-RING_EVENT_COUNT_MAX:], dataset.codes[ring], dataset.times[ring]
    seen = seen[seen >= 0]
    vector = vectorize(rows, codes, times, model, workspace)
    whole = model.factors @ vector if vector.any() else model.popularity.copy()
    if model.has_ranker and vector.any():
        found = gather(rows, codes, times, vector, model, workspace, blocked_rows=seen).rows
        ranked = score(found, rows, codes, times, now, vector, model, workspace)
        whole[found] = ranked - ranked.min() + whole.max() + 1.0
    return rank_of(row, whole, seen)
