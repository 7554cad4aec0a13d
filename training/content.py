"""Fits the vectors of words to the factors of items that have events: ridge regression, an item's say grows with its events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from training.dataset import Dataset
from vectorizer.content import ContentModel, WordLists
from vectorizer.model import ModelArrays

WORD_COUNT_MAX = 2_048  # the most frequent: their matrix takes 34 MB, and solving it a second
WORD_ITEMS_MIN = 2  # a word of a single item says nothing of others
EVENT_PRIOR = 10.0  # events after which an item has half of its say
RIDGE = 3.0  # items that stand against each word's vector: chosen on held-out items (docs/decisions/0011)

Float64 = NDArray[np.float64]


def fit_content(
    dataset: Dataset, model: ModelArrays, queries: NDArray[np.float32], regularization: float
) -> ContentModel:
    """The content model beside `model`, which was fitted on `dataset`; queries (m, d) float32 are vectors of some users.

    An item's expected vector is that of an item with few events: factors shrink towards zero with what is known.
    """
    rows = model.rows_of(dataset.items.keys)
    known = np.flatnonzero(rows >= 0)
    lists, factors = dataset.items.words.take(known), model.factors[rows[known]].astype(np.float64)
    counts = np.bincount(dataset.rows, minlength=len(rows))[known]
    words, matrix = _matrix(lists)
    weights = counts / (counts + EVENT_PRIOR)
    with threadpool_limits(limits=1, user_api="blas"):
        bias, vectors = _ridge(matrix, factors, weights)
    users = dataset.user_count / max(len(queries), 1)
    gram = users * (queries.T @ queries) + regularization * np.eye(queries.shape[1])
    return ContentModel(words, vectors.astype(np.float32), bias.astype(np.float32), gram.astype(np.float32))


def _matrix(lists: WordLists) -> tuple[NDArray[np.uint64], csr_matrix]:
    """The kept words, ascending, and (n, w) with 1 where an item has a word."""
    found, inverse, counts = np.unique(lists.hashes, return_inverse=True, return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:WORD_COUNT_MAX]
    kept = np.sort(kept[counts[kept] >= WORD_ITEMS_MIN])
    column = np.full(len(found), -1, dtype=np.int64)
    column[kept] = np.arange(len(kept))
    n = len(lists.starts) - 1
    items = np.repeat(np.arange(n), np.diff(lists.starts))
    columns = column[inverse]
    inside = columns >= 0
    ones = np.ones(int(np.count_nonzero(inside)))
    return found[kept], csr_matrix((ones, (items[inside], columns[inside])), shape=(n, len(kept)))


def _ridge(matrix: csr_matrix, factors: Float64, weights: Float64) -> tuple[Float64, Float64]:
    """The bias (d,) and the words' vectors (w, d) of least weighted squares; the bias is free, the words are held back."""
    total = max(float(weights.sum()), 1e-12)
    mean_factors = weights @ factors / total
    mean_words = np.asarray(weights @ matrix).ravel() / total
    weighted = matrix.multiply(weights[:, None]).tocsr()
    left = (weighted.T @ matrix).toarray() - total * np.outer(mean_words, mean_words)
    right = np.asarray(weighted.T @ factors) - total * np.outer(mean_words, mean_factors)
    left[np.diag_indices_from(left)] += RIDGE
    vectors = np.linalg.solve(left, right) if len(left) else np.zeros((0, factors.shape[1]))
    return mean_factors - mean_words @ vectors, vectors
