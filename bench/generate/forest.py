"""A ranker that was really trained: on what a request before each user's last event would have seen.

The trees' borders and depths decide how much a score costs, so they come from features of real requests, not from a draw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.generate.truth import exact_top
from bench.generate.users import Events
from training.config import RankerConfig
from training.ranker import fit_trees, forest_arrays
from training.rows import TrainingRows
from vectorizer import ModelArrays, Workspace, gather, vectorize
from vectorizer.limits import PERSONAL_COUNT_MAX, RING_EVENT_COUNT_MAX
from vectorizer.request import features

GROUPS_MAX = (
    1_500  # requests; with 24 items of each some 36,000 rows, which are fitted in a quarter of a minute
)
NEGATIVES = 23
EVENTS_MIN = 4
CONFIG = RankerConfig(thread_count=2)  # 200 trees of depth 6


def fit(model: ModelArrays, events: Events, seed: int, config: RankerConfig = CONFIG) -> ModelArrays:
    """The model with a forest."""
    users = np.flatnonzero(np.diff(events.offsets) >= EVENTS_MIN)[:GROUPS_MAX]
    rows = _rows(model, events, users, seed)
    return model.with_forest(*forest_arrays(fit_trees(rows, replace(config, seed=seed))))


def _rows(model: ModelArrays, events: Events, users: NDArray[np.int64], seed: int) -> TrainingRows:
    workspace, rng = Workspace(model), np.random.default_rng((seed, 1))
    rings = [_before_last(events.of(int(user))) for user in users]
    vectors = np.stack(
        [vectorize(events.rows[r], events.codes[r], events.times[r], model, workspace) for r in rings]
    )
    personal = exact_top(model.factors, model.factor_norms, vectors, PERSONAL_COUNT_MAX)
    parts, labels = [], []
    for ring, vector, near in zip(rings, vectors, personal, strict=True):
        found, label = _candidates(model, events, ring, vector, near, workspace, rng)
        now = int(events.times[ring.stop])
        matrix = features(
            found, events.rows[ring], events.codes[ring], events.times[ring], now, vector, model, workspace
        )
        kept = np.concatenate([[0], 1 + rng.choice(len(found) - 1, min(NEGATIVES, len(found) - 1), False)])
        parts.append(matrix[:, kept].T.copy())
        labels.append(label[kept])
    sizes = [len(part) for part in parts]
    times = events.times[[ring.stop for ring in rings]]
    return TrainingRows(
        np.concatenate(parts),
        np.concatenate(labels),
        np.repeat(np.arange(len(parts)), sizes),
        np.repeat(times, sizes),
    )


def _before_last(where: slice) -> slice:
    last = where.stop - 1
    return slice(max(where.start, last - RING_EVENT_COUNT_MAX), last)


def _candidates(
    model: ModelArrays,
    events: Events,
    ring: slice,
    vector: NDArray[np.float32],
    near: NDArray[np.int32],
    workspace: Workspace,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The held-out item first, then what a request would have gathered; labels beside them."""
    target = events.rows[ring.stop]
    found = gather(
        events.rows[ring],
        events.codes[ring],
        events.times[ring],
        vector,
        model,
        workspace,
        personal_rows=near,
    ).rows
    rows = np.concatenate([[target], found[found != target]]).astype(np.int32)
    labels = np.zeros(len(rows), dtype=np.float32)
    labels[0] = 1
    return rows, labels
