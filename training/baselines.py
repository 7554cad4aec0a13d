"""What the vectorizer and the ranker are compared with. Each fit gives a function that scores all items for users."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from training.config import BaseConfig
from training.dataset import Dataset
from training.fit import fit_factors
from training.neighbours import (
    EASE_ITEM_COUNT_MAX,
    Lists,
    cosine_lists,
    ease_matrix,
    interactions,
    neighbour_lists,
)

Users = NDArray[np.int32]
Scores = NDArray[np.float32]  # (users asked for, n) float32, higher is better
ScoreUsers = Callable[[Users], Scores]

KNN_NEIGHBOUR_COUNT = 100


def fit_popularity(dataset: Dataset, config: BaseConfig) -> ScoreUsers:
    """The same for each user: how many events an item has."""
    counts = np.bincount(dataset.rows, minlength=len(dataset.items.keys)).astype(np.float32)
    return lambda users: np.broadcast_to(counts, (len(users), len(counts)))


def fit_item_knn(dataset: Dataset, config: BaseConfig) -> ScoreUsers:
    """Sum of the cosines to the user's items, each item with its nearest neighbours."""
    seen = interactions(dataset)
    return _scored_by_lists(seen, cosine_lists(seen, KNN_NEIGHBOUR_COUNT, config.cosine_shrink))


def fit_ease(dataset: Dataset, config: BaseConfig) -> ScoreUsers:
    """EASE with its whole matrix; with the sparse lists of the base model where that would not fit."""
    seen = interactions(dataset)
    if seen.shape[1] > EASE_ITEM_COUNT_MAX:
        lists = neighbour_lists(
            dataset, config.neighbour_count, config.ease_regularization, config.cosine_shrink
        )
        return _scored_by_lists(seen, lists)
    weights = ease_matrix(seen, config.ease_regularization)
    return lambda users: np.asarray(seen[users] @ weights, dtype=np.float32)


def fit_ials(dataset: Dataset, config: BaseConfig) -> ScoreUsers:
    """iALS with the user factors of its own fit: no recency, no fold-in."""
    items, factors = fit_factors(dataset, config)
    return lambda users: factors[users] @ items.T


def _scored_by_lists(seen: sp.csr_matrix, lists: Lists) -> ScoreUsers:
    columns, values = lists
    rows, places = np.nonzero(columns >= 0)
    shape = (len(columns), len(columns))
    weights = sp.csr_matrix((values[rows, places], (rows, columns[rows, places])), shape=shape)
    return lambda users: np.asarray((seen[users] @ weights).todense(), dtype=np.float32)


BASELINES: dict[str, Callable[[Dataset, BaseConfig], ScoreUsers]] = {
    "popularity": fit_popularity,
    "item_knn": fit_item_knn,
    "ease": fit_ease,
    "ials": fit_ials,
}
