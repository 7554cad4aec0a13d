"""iALS fold-in: a user's vector from the item factors and the events alone.

Solves (G + sum_i c_i y_i y_i^T) x = sum_i (1 + c_i) y_i for x, where G = Y^T Y + regularisation (Hu, Koren and
Volinsky, "Collaborative filtering for implicit feedback datasets", 2008, equation 4, with confidence 1 + c_i).

Inner loops go by whole blocks of LANE_COUNT numbers (vectorizer/lanes.py), so matrices and vectors are padded: with the
unit matrix and with zeros, which change nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.lanes import add_scaled, inner_block, multiply, prefetch
from vectorizer.limits import LANE_COUNT
from vectorizer.model import Float32, Int32

# Confidence below this share of the ring's largest is left out of the matrix (float32 would hardly notice): of a fast
# decay only the newest events are worth their d^2 steps. They still count in the right-hand side, as everything does.
NEGLIGIBLE_SHARE = np.float32(1e-6)


@njit(cache=True, nogil=True, fastmath=True)
def cholesky_solve(matrix: Float32, vector: Float32, roots: Float32) -> None:
    """Solves matrix x = vector in place: vector becomes x, matrix's upper triangle its factor.

    matrix (p * p,) float32, the rows of a symmetric positive definite matrix, of which the upper triangle counts;
    vector and roots (p,) float32; p a multiple of LANE_COUNT. Of the lower triangle, what shares a block with the
    diagonal is overwritten. Row-oriented on purpose (U^T U, not L L^T): every inner loop runs along a row.
    """
    lanes, one = np.uint64(LANE_COUNT), np.uint64(1)
    p = np.uint64(vector.shape[0])
    for column in range(p):
        j = np.uint64(column)
        row = j * p
        root = np.float32(1.0) / np.sqrt(max(matrix[row + j], np.float32(1e-12)))
        roots[j] = root
        first = j - j % lanes
        for k in range(first, p, lanes):
            multiply(matrix, row + k, root)
        for k in range(first, j):
            matrix[row + k] = np.float32(0.0)  # left of the diagonal: the last passes go over whole blocks
        for i in range(j + one, p):
            scale = -matrix[row + i]
            for k in range(i - i % lanes, p, lanes):
                add_scaled(matrix, i * p + k, matrix, row + k, scale)
        value = vector[j] * root
        for k in range(first, p, lanes):
            add_scaled(vector, k, matrix, row + k, -value)
        vector[j] = value
    for back in range(p):
        j = p - one - np.uint64(back)
        row = j * p
        value, vector[j] = vector[j], np.float32(0.0)
        for k in range(j - j % lanes, p, lanes):
            value -= inner_block(vector, k, matrix, row + k)
        vector[j] = value * roots[j]


@njit(cache=True, nogil=True, fastmath=True)
def fold_in(  # noqa: C901  # a kernel: one loop nest
    rows: Int32,
    weights: Float32,
    factors: Float32,
    gram: Float32,
    matrix: Float32,
    item: Float32,
    roots: Float32,
    vectors: Float32,
) -> int:
    """Writes a user's vectors, one for each way of weighing the events; returns how many events counted.

    rows (m,) int32, -1 is skipped; weights (v, m) float32, confidence above 1 of each event, 0 is skipped; factors
    (n, d), gram (d, d) float32; matrix (p * p,), item and roots (p,) and vectors (v, p) float32 are the caller's and are
    overwritten, p is d rounded up to a multiple of LANE_COUNT. A vector of no event is all zeros; the count is of the
    first way.
    """
    d = np.uint64(factors.shape[1])
    lanes = np.uint64(LANE_COUNT)
    p = np.uint64(item.shape[0])
    first_used = 0
    item[:] = np.float32(0.0)
    for m in range(rows.shape[0]):
        if rows[m] >= 0:
            for i in range(np.uint64(0), d, lanes):
                prefetch(factors, np.uint64(rows[m]) * d + i)
    for v in range(weights.shape[0]):
        vector = vectors[v]
        vector[:] = np.float32(0.0)
        used = 0
        largest = np.float32(0.0)
        for m in range(rows.shape[0]):
            if rows[m] >= 0:
                largest = max(largest, weights[v, m])
        for m in range(rows.shape[0]):
            row = rows[m]
            confidence = weights[v, m]
            if row < 0 or confidence <= 0:
                continue
            if used == 0:
                _begin(gram, matrix, p)
            used += 1
            for i in range(d):
                item[i] = factors[row, i]
            both = np.float32(1.0) + confidence
            for k in range(np.uint64(0), p, lanes):
                add_scaled(vector, k, item, k, both)
            if confidence < NEGLIGIBLE_SHARE * largest:
                continue
            for i in range(d):
                scaled = confidence * item[i]
                for k in range(i - i % lanes, p, lanes):
                    add_scaled(matrix, i * p + k, item, k, scaled)
        if used > 0:
            cholesky_solve(matrix, vector, roots)
        if v == 0:
            first_used = used
    return first_used


@njit(cache=True, nogil=True)
def _begin(gram: Float32, matrix: Float32, p: np.uint64) -> None:
    # The Gram matrix, and the unit matrix in what pads it.
    d = np.uint64(gram.shape[0])
    matrix[:] = np.float32(0.0)
    for i in range(d):
        for k in range(d):
            matrix[i * p + k] = gram[i, k]
    for i in range(d, np.uint64(p)):
        matrix[i * p + i] = np.float32(1.0)


@njit(cache=True, nogil=True)
def event_weights(
    codes: np.ndarray, table: Float32, confidence: np.float32, decays: Float32, weights: Float32
) -> None:
    """Writes confidence * table[code] * exp(-decay * position) to weights (v, m); position 0 is the newest event.

    codes (m,) uint8, table (16,) and decays (v,) float32.
    """
    count = codes.shape[0]
    for v in range(decays.shape[0]):
        for m in range(count):
            position = np.float32(count - 1 - m)
            weights[v, m] = confidence * table[codes[m] & 15] * np.exp(-decays[v] * position)
