"""Vectors of real users, by which a bundle's retrieval plan is chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.dataset import Dataset
from vectorizer import ModelArrays, Workspace, vectorize
from vectorizer.limits import RING_EVENT_COUNT_MAX

QUERY_COUNT = 256  # of as many users: recall's mean is then known to a thousandth or two
SEED = 7


def user_vectors(dataset: Dataset, model: ModelArrays) -> NDArray[np.float32]:
    """The vectors of at most QUERY_COUNT users, drawn evenly from those with events: (m, d) float32, none of them zero."""
    order, offsets = dataset.by_user()
    users = np.flatnonzero(np.diff(offsets))
    random = np.random.default_rng(SEED)
    users = random.permutation(users)[:QUERY_COUNT]
    rows_in_model, workspace = model.rows_of(dataset.items.keys), Workspace(model)
    vectors = np.zeros((len(users), model.factor_count), dtype=np.float32)
    for at, user in enumerate(users):
        ring = order[offsets[user] : offsets[user + 1]][-RING_EVENT_COUNT_MAX:]
        rows = rows_in_model[dataset.rows[ring]]
        vectors[at] = vectorize(rows, dataset.codes[ring], dataset.times[ring], model, workspace)
    return vectors[np.any(vectors != 0, axis=1)]
