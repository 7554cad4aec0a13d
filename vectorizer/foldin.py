"""iALS fold-in: a user's vector from the item factors and the events alone.

Solves (G + sum_i c_i y_i y_i^T) x = sum_i (1 + c_i) y_i for x, where G = Y^T Y + regularisation (Hu, Koren and
Volinsky, "Collaborative filtering for implicit feedback datasets", 2008, equation 4, with confidence 1 + c_i).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.model import Float32, Int32


@njit(cache=True, nogil=True, fastmath=True)
def cholesky_solve(matrix: Float32, vector: Float32) -> None:
    """Solves matrix x = vector in place: vector becomes x, matrix's upper triangle its factor.

    matrix (d, d) float32, symmetric positive definite, only its upper triangle is read; vector (d,) float32.
    Row-oriented on purpose (U^T U, not L L^T): every inner loop runs along a row and vectorises.
    """
    d = vector.shape[0]
    for j in range(d):
        root = np.float32(1.0) / np.sqrt(max(matrix[j, j], np.float32(1e-12)))
        for k in range(j, d):
            matrix[j, k] *= root
        for i in range(j + 1, d):
            factor = matrix[j, i]
            for k in range(i, d):
                matrix[i, k] -= factor * matrix[j, k]
    for j in range(d):
        vector[j] /= matrix[j, j]
        value = vector[j]
        for k in range(j + 1, d):
            vector[k] -= value * matrix[j, k]
    for j in range(d - 1, -1, -1):
        total = vector[j]
        for k in range(j + 1, d):
            total -= matrix[j, k] * vector[k]
        vector[j] = total / matrix[j, j]


@njit(cache=True, nogil=True, fastmath=True)
def fold_in(
    rows: Int32, weights: Float32, factors: Float32, gram: Float32, matrix: Float32, vector: Float32
) -> int:
    """Writes the user's vector to `vector` and returns how many events counted; zeros if none did.

    rows (m,) int32, -1 is skipped; weights (m,) float32, confidence above 1 of each event, 0 is skipped; factors
    (n, d), gram (d, d) float32; matrix (d, d) and vector (d,) float32 are the caller's and are overwritten.
    """
    d = factors.shape[1]
    vector[:] = np.float32(0.0)
    used = 0
    for m in range(rows.shape[0]):
        row = rows[m]
        confidence = weights[m]
        if row < 0 or confidence <= 0:
            continue
        if used == 0:
            matrix[:, :] = gram
        used += 1
        item = factors[row]
        for i in range(d):
            scaled = confidence * item[i]
            vector[i] += item[i] + scaled
            for k in range(i, d):
                matrix[i, k] += scaled * item[k]
    if used > 0:
        cholesky_solve(matrix, vector)
    return used


@njit(cache=True, nogil=True)
def event_weights(
    codes: np.ndarray, table: Float32, confidence: np.float32, decay: np.float32, weights: Float32
) -> None:
    """Writes confidence * table[code] * exp(-decay * position) to weights (m,); position 0 is the newest event."""
    count = codes.shape[0]
    for m in range(count):
        position = np.float32(count - 1 - m)
        weights[m] = confidence * table[codes[m] & 15] * np.exp(-decay * position)
