"""Sparse item-to-item lists: EASE where its dense inverse fits, item-kNN cosine beyond, and what follows what."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri

from training.dataset import Dataset

Lists = tuple[NDArray[np.int32], NDArray[np.float32]]

EASE_ITEM_COUNT_MAX = (
    8_000  # n^2 doubles twice (1.2 GB with what comes of them) and n^3 steps, for each window of the ranker
)
BLOCK_ROW_COUNT = 512  # rows that are sorted, or multiplied, at a time


def interactions(dataset: Dataset) -> sp.csr_matrix:
    """(users, n) float32, 1 where the user has an event with the item."""
    ones = np.ones(len(dataset), dtype=np.float32)
    shape = (dataset.user_count, len(dataset.items.keys))
    matrix = sp.csr_matrix((ones, (dataset.users, dataset.rows)), shape=shape)
    matrix.data[:] = 1.0
    return matrix


def ease_matrix(seen: sp.csr_matrix, regularization: float) -> NDArray[np.float32]:
    """(n, n) float32 item-to-item weights B of EASE, users' scores are `seen @ B` (Steck, 2019, equation 8)."""
    # In place all along, at 8,000 items each n^2 doubles are 0.5 GB. LAPACK works in place on Fortran's order alone.
    gram = (seen.T @ seen).astype(np.float64).toarray(order="F")
    gram[np.diag_indices_from(gram)] += regularization
    factor, _ = dpotrf(gram, lower=False, overwrite_a=True)  # its lower triangle comes back as zeros
    weights, _ = dpotri(factor, lower=False, overwrite_c=True)
    diagonal = np.diag(weights).copy()
    weights += np.triu(weights, 1).T
    weights /= -diagonal
    np.fill_diagonal(weights, 0.0)
    return np.asarray(weights, dtype=np.float32, order="C")


def cosine_lists(seen: sp.csr_matrix, count: int, shrink: float) -> Lists:
    """The `count` items of largest shrunk cosine of each item, block by block: memory does not grow with n^2."""
    norms = np.sqrt(np.asarray(seen.sum(axis=0)).ravel())
    by_item = seen.T.tocsr()
    lists = []
    for start in range(0, len(norms), BLOCK_ROW_COUNT):
        block = (by_item[start : start + BLOCK_ROW_COUNT] @ seen).tocoo()
        own = block.row + start
        cosines = block.data / (norms[own] * norms[block.col] + shrink)
        cosines[own == block.col] = 0.0
        lists.append(sparse_lists(sp.csr_matrix((cosines, (block.row, block.col)), shape=block.shape), count))
    return _join(lists)


def top_lists(weights: NDArray[np.float32], count: int) -> Lists:
    """The `count` largest positive weights of each row, best first: (m, K) int32 columns, -1 padded, and weights."""
    count = min(count, weights.shape[1])
    order = _top_columns(weights, count)
    best = np.take_along_axis(weights, order, axis=1).astype(np.float32)
    return np.where(best > 0, order, -1).astype(np.int32), np.maximum(best, 0).astype(np.float32)


def _top_columns(weights: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    # (m, count) columns by falling weight. A whole sort of each row costs ten times a partition on wide catalogues.
    if count == weights.shape[1]:
        return np.argsort(-weights, axis=1, kind="stable")
    some = np.argpartition(-weights, count - 1, axis=1)[:, :count]
    some.sort(axis=1)  # so that ties among the chosen go to the lower column
    order = np.argsort(-np.take_along_axis(weights, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _join(lists: list[Lists]) -> Lists:
    return np.concatenate([a for a, _ in lists]), np.concatenate([b for _, b in lists])


def neighbour_lists(dataset: Dataset, count: int, regularization: float, shrink: float) -> Lists:
    """Each item's neighbours, (n, K) int32 and float32: EASE up to EASE_ITEM_COUNT_MAX items, else cosine."""
    seen = interactions(dataset)
    if seen.shape[1] > EASE_ITEM_COUNT_MAX:
        return cosine_lists(seen, count, shrink)
    # B[i, j] is what having i says of j: rows are the recent items, columns the candidates.
    weights = ease_matrix(seen, regularization)
    blocks = range(0, len(weights), BLOCK_ROW_COUNT)
    return _join([top_lists(weights[at : at + BLOCK_ROW_COUNT], count) for at in blocks])


def transition_lists(
    dataset: Dataset, count: int, reach: int, decay: float, backward: float, shrink: float, power: float
) -> Lists:
    """What follows each item, (n, T) int32 and float32.

    An event `gap` places later in the same user's sequence (at most `reach`) counts decay**(gap - 1) for its item, and
    `backward` times that the other way: order within a visit is half chance. Sums are divided by the item's own count
    plus `shrink` and by the candidate's count to `power`, so that popular items do not follow everything.
    """
    order, _ = dataset.by_user()
    users, rows = dataset.users[order], dataset.rows[order]
    n = len(dataset.items.keys)
    total = sp.csr_matrix((n, n), dtype=np.float32)
    for gap in range(1, min(reach, len(rows) - 1) + 1):
        same = (users[gap:] == users[:-gap]) & (rows[gap:] != rows[:-gap])
        source, target = rows[:-gap][same], rows[gap:][same]
        value = np.full(len(source), decay ** (gap - 1), dtype=np.float32)
        total = total + sp.csr_matrix((value, (source, target)), shape=(n, n))
    total = (total + backward * total.T).tocsr()
    counts = np.bincount(rows, minlength=n).astype(np.float32)
    return sparse_lists(_normalised(total, counts, shrink, power), count)


def _normalised(
    total: sp.csr_matrix, counts: NDArray[np.float32], shrink: float, power: float
) -> sp.csr_matrix:
    left = sp.diags_array((1.0 / (counts + shrink)).astype(np.float32))
    right = sp.diags_array(np.maximum(counts, 1.0) ** np.float32(-power))
    return (left @ total @ right).tocsr()


def sparse_lists(weights: sp.csr_matrix, count: int) -> Lists:
    """As `top_lists`, of a sparse matrix: time and memory grow with what is stored, not with rows times columns."""
    stored = weights.tocoo()
    kept = stored.data > 0
    rows, columns, values = stored.row[kept], stored.col[kept], stored.data[kept]
    order = np.lexsort((columns, -values, rows))  # by row, best first, ties to the lower column
    rows, columns, values = rows[order], columns[order], values[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    near = place < count
    shape = (weights.shape[0], min(count, weights.shape[1]))
    best, best_weights = np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    best[rows[near], place[near]] = columns[near]
    best_weights[rows[near], place[near]] = values[near]
    return best, best_weights
