"""What the vectorizer and the ranker are compared with: each gives every user's scores of all items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.config import BaseConfig
from training.dataset import Dataset
from training.fit import fit_factors
from training.neighbours import EASE_ITEM_COUNT_MAX, cosine_lists, ease_matrix, interactions, neighbour_lists

Scores = NDArray[np.float32]  # (users, n) float32, higher is better

KNN_NEIGHBOUR_COUNT = 100


def popularity_scores(dataset: Dataset, config: BaseConfig) -> Scores:
    """The same for each user: how many events an item has."""
    counts = np.bincount(dataset.rows, minlength=len(dataset.items.keys)).astype(np.float32)
    return np.broadcast_to(counts, (dataset.user_count, len(counts)))


def item_knn_scores(dataset: Dataset, config: BaseConfig) -> Scores:
    """Sum of the cosines to the user's items, each item with its nearest neighbours."""
    seen = interactions(dataset)
    lists, weights = cosine_lists(seen, KNN_NEIGHBOUR_COUNT, config.cosine_shrink)
    return np.asarray(seen @ _dense(lists, weights), dtype=np.float32)


def ease_scores(dataset: Dataset, config: BaseConfig) -> Scores:
    """EASE with its whole matrix; with the sparse lists where that would not fit."""
    seen = interactions(dataset)
    if seen.shape[1] > EASE_ITEM_COUNT_MAX:
        lists = neighbour_lists(
            dataset, config.neighbour_count, config.ease_regularization, config.cosine_shrink
        )
        return np.asarray(seen @ _dense(*lists), dtype=np.float32)
    return np.asarray(seen @ ease_matrix(seen, config.ease_regularization), dtype=np.float32)


def ials_scores(dataset: Dataset, config: BaseConfig) -> Scores:
    """iALS with the user factors of its own fit: no recency, no fold-in."""
    items, users = fit_factors(dataset, config)
    return users @ items.T


def _dense(lists: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    n = len(lists)
    dense = np.zeros((n, n), dtype=np.float32)
    rows, columns = np.nonzero(lists >= 0)
    dense[rows, lists[rows, columns]] = weights[rows, columns]
    return dense


BASELINES = {
    "popularity": popularity_scores,
    "item_knn": item_knn_scores,
    "ease": ease_scores,
    "ials": ials_scores,
}
