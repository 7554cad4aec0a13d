"""Candidate sources over plain arrays: each keeps the n best of what it sees, ties to the lower row."""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.model import Float32, Int32

# One bit for each source of a candidate; serving's own (trending, new, promoted) start at 16.
PERSONAL = 1
TRANSITION = 2
SIMILAR = 4
POPULAR = 8

# Columns of the accumulator: what the recent events' sparse lists add up to for an item.
TRANSITION_LAST, TRANSITION_FAST, TRANSITION_SLOW = 0, 1, 2
SIMILAR_LAST, SIMILAR_FAST, SIMILAR_SLOW, SIMILAR_LONG, SIMILAR_LIKED = 3, 4, 5, 6, 7
ACCUMULATOR_COUNT = 8
DECAY_FAST, DECAY_SLOW, DECAY_LONG = (
    0.7,
    0.2,
    0.03,
)  # by position; fast is a session's last few, long the whole ring


@njit(cache=True, nogil=True)
def _worse(score_a: float, row_a: int, score_b: float, row_b: int) -> bool:
    return bool(score_a < score_b or (score_a == score_b and row_a > row_b))


@njit(cache=True, nogil=True)
def _sift_down(scores: Float32, rows: Int32, start: int, size: int) -> None:
    at = start
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and _worse(scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not _worse(scores[child], rows[child], scores[at], rows[at]):
            return
        scores[at], scores[child] = scores[child], scores[at]
        rows[at], rows[child] = rows[child], rows[at]
        at = child


@njit(cache=True, nogil=True)
def keep_best(score: float, row: int, scores: Float32, rows: Int32, size: int) -> int:
    """Offers (score, row) to a heap of the best len(rows) so far, worst on top; returns the heap's new size."""
    if size < rows.shape[0]:
        scores[size], rows[size] = score, row
        at = size
        while at > 0:
            parent = (at - 1) // 2
            if not _worse(scores[at], rows[at], scores[parent], rows[parent]):
                break
            scores[at], scores[parent] = scores[parent], scores[at]
            rows[at], rows[parent] = rows[parent], rows[at]
            at = parent
        return size + 1
    if size > 0 and _worse(scores[0], rows[0], score, row):
        scores[0], rows[0] = score, row
        _sift_down(scores, rows, 0, size)
    return size


@njit(cache=True, nogil=True)
def order_best(scores: Float32, rows: Int32, size: int) -> None:
    """Turns a heap of `keep_best` into a list, best first, in place."""
    for end in range(size - 1, 0, -1):
        scores[0], scores[end] = scores[end], scores[0]
        rows[0], rows[end] = rows[end], rows[0]
        _sift_down(scores, rows, 0, end)


@njit(cache=True, nogil=True, fastmath=True)
def inner_product(left: Float32, right: Float32) -> float:
    """The inner product of two (d,) float32 vectors."""
    total = np.float32(0.0)
    for i in range(left.shape[0]):
        total += left[i] * right[i]
    return float(total)


@njit(cache=True, nogil=True)
def best_personal(
    vector: Float32, factors: Float32, excluded: np.ndarray, best_scores: Float32, best_rows: Int32
) -> int:
    """The exact best rows by inner product, best first; returns how many.

    vector (d,), factors (n, d) float32; excluded (n,) uint8, non-zero is skipped; best_* (limit,) are overwritten.
    """
    size = 0
    for row in range(factors.shape[0]):
        if excluded[row] == 0:
            size = keep_best(inner_product(vector, factors[row]), row, best_scores, best_rows, size)
    order_best(best_scores, best_rows, size)
    return size


@njit(cache=True, nogil=True)
def accumulate(  # noqa: C901  # a kernel: two loops of the same shape over one event
    rows: Int32,
    likings: Float32,
    transitions: Int32,
    transition_weights: Float32,
    neighbours: Int32,
    neighbour_weights: Float32,
    sums: Float32,
    touched: Int32,
) -> int:
    """Adds the recent events' lists up in `sums` and returns how many rows of it were touched.

    rows (m,) int32 oldest first, -1 skipped; likings (m,) float32; lists (n, T) and (n, K); sums (n,
    ACCUMULATOR_COUNT) float32 must be zero and touched (n,) int32 receives the rows that no longer are: whoever calls
    hands them to `clear` afterwards, so that a request costs what it touches and not the catalogue.
    """
    count = rows.shape[0]
    size = 0
    for m in range(count - 1, -1, -1):
        row = rows[m]
        if row < 0:
            continue
        position = count - 1 - m
        fast = np.float32(np.exp(-DECAY_FAST * position))
        slow = np.float32(np.exp(-DECAY_SLOW * position))
        long = np.float32(np.exp(-DECAY_LONG * position))
        for k in range(transitions.shape[1]):
            other = transitions[row, k]
            if other < 0:
                break
            cell = sums[other]
            weight = transition_weights[row, k]
            if _is_zero(cell):
                touched[size] = other
                size += 1
            if position == 0:
                cell[0] += weight
            cell[1] += fast * weight
            cell[2] += slow * weight
        for k in range(neighbours.shape[1]):
            other = neighbours[row, k]
            if other < 0:
                break
            cell = sums[other]
            weight = neighbour_weights[row, k]
            if _is_zero(cell):
                touched[size] = other
                size += 1
            if position == 0:
                cell[3] += weight
            cell[4] += fast * weight
            cell[5] += slow * weight
            cell[6] += long * weight
            cell[7] += long * weight * likings[m]
    return size


@njit(cache=True, nogil=True)
def _is_zero(cell: Float32) -> bool:
    # The slow columns of each list are never zero again: list weights are positive (training/neighbours.py).
    return bool(cell[2] == 0 and cell[6] == 0)


@njit(cache=True, nogil=True)
def clear(sums: Float32, touched: Int32, touched_count: int) -> None:
    """Zeroes the touched rows of `sums`."""
    for i in range(touched_count):
        sums[touched[i], :] = np.float32(0.0)


@njit(cache=True, nogil=True)
def best_accumulated(
    sums: Float32,
    touched: Int32,
    touched_count: int,
    column: int,
    excluded: np.ndarray,
    best_scores: Float32,
    best_rows: Int32,
) -> int:
    """The touched rows with the largest positive sums in one column, best first; returns how many."""
    size = 0
    for i in range(touched_count):
        row = touched[i]
        if excluded[row] == 0 and sums[row, column] > 0:
            size = keep_best(sums[row, column], row, best_scores, best_rows, size)
    order_best(best_scores, best_rows, size)
    return size


@njit(cache=True, nogil=True)
def merge(found: Int32, count: int, bit: int, marks: np.ndarray, candidates: Int32, size: int) -> int:
    """Appends the rows not yet in `candidates` and sets `bit` in the marks of all; returns the new size.

    marks (n,) uint8, zero for all rows that are not candidates. Rows beyond the room are left out.
    """
    for i in range(count):
        row = found[i]
        if marks[row] == 0:
            if size == candidates.shape[0]:
                continue
            candidates[size] = row
            size += 1
        marks[row] |= np.uint8(bit)
    return size
