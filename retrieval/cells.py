"""Cells: rows that lie in one direction, by spherical k-means (Dhillon and Modha, 2001) over a sample."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retrieval.limits import CELL_COUNT_MAX, CELL_ROW_COUNT

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

SEED = 7
SAMPLE_ROW_COUNT = 32  # rows of the sample to a cell: more do not move the centroids
ROUND_COUNT = 6  # recall no longer rises after
PIECE_ROW_COUNT = 4_096  # rows compared with all centroids at a time: 64 MB of cosines


def find_cells(factors: Float32, norms: Float32) -> tuple[Int32, Float32]:
    """Each row's cell, (n,) int32, and the cells' centroids, (c, d) float32 of length 1. Some 10 s for a million rows."""
    count = max(1, min(CELL_COUNT_MAX, len(factors) // CELL_ROW_COUNT))
    random = np.random.default_rng(SEED)
    picked = random.choice(len(factors), min(len(factors), SAMPLE_ROW_COUNT * count), replace=False)
    sample = _units(factors[picked], norms[picked])
    centroids = sample[random.choice(len(sample), count, replace=False)].copy()
    for _ in range(ROUND_COUNT):
        centroids = _moved(centroids, sample, _assign(sample, centroids))
    return _assign(factors, centroids), centroids  # whatever their lengths


def _units(factors: Float32, norms: Float32) -> Float32:
    units: Float32 = (factors / np.maximum(norms, np.float32(1e-30))[:, None]).astype(np.float32)
    return units


def _moved(centroids: Float32, sample: Float32, cells: Int32) -> Float32:
    """The centroids in the middle of their rows; one without rows, or whose rows cancel out, stays."""
    order = np.argsort(cells, kind="stable")
    first = np.flatnonzero(np.diff(cells[order], prepend=-1))
    sums = np.add.reduceat(sample[order], first, axis=0)
    lengths = np.linalg.norm(sums, axis=1)
    good = lengths > 1e-6
    moved = centroids.copy()
    moved[cells[order][first][good]] = sums[good] / lengths[good, None]
    return moved


def _assign(rows: Float32, centroids: Float32) -> Int32:
    cells = np.empty(len(rows), dtype=np.int32)
    transposed = np.ascontiguousarray(centroids.T)
    for at in range(0, len(rows), PIECE_ROW_COUNT):
        _largest(rows[at : at + PIECE_ROW_COUNT] @ transposed, cells[at : at + PIECE_ROW_COUNT])
    return cells


@njit(cache=True, nogil=True)
def _largest(scores: Float32, places: Int32) -> None:
    """Writes the place of each row's largest score, the first of equal ones. numpy's argmax takes three times as long."""
    for i in range(scores.shape[0]):
        best, place = scores[i, 0], 0
        for j in range(1, scores.shape[1]):
            if scores[i, j] > best:
                best, place = scores[i, j], j
        places[i] = place
