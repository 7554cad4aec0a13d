"""Retrieval's kernels, plain and slow."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from retrieval.lanes import BLOCK_ROW_COUNT, CODE_ZERO, GROUP_DIMENSION_COUNT


def block_scores(
    codes: np.ndarray, query: np.ndarray, scales: np.ndarray, threshold: float
) -> tuple[list[float], int]:
    """Scores of the rows of one block, codes (groups * BLOCK_ROW_COUNT * 4,), and the mask of those above the threshold."""
    rows = (
        codes.reshape(-1, BLOCK_ROW_COUNT, GROUP_DIMENSION_COUNT)
        .transpose(1, 0, 2)
        .reshape(BLOCK_ROW_COUNT, -1)
    )
    signed = rows.astype(np.int64) - CODE_ZERO
    words = query.view(np.int8).astype(np.int64)
    scores = [float(np.float32(int(row @ words)) * scale) for row, scale in zip(signed, scales, strict=True)]
    return scores, sum(1 << lane for lane, score in enumerate(scores) if score > threshold)


def search(
    vector: np.ndarray,
    factors: np.ndarray,
    count: int,
    hidden: np.ndarray,
    blocked: Iterable[int],
    cosine: bool = False,
) -> list[float]:
    """The `count` best scores of the rows that pass, falling."""
    out = set(blocked)
    scores = []
    for row, factor in enumerate(factors):
        norm = float(np.linalg.norm(factor)) if cosine else 1.0
        if row in out or (len(hidden) and hidden[row]) or norm == 0:
            continue
        scores.append(float(factor.astype(np.float64) @ vector.astype(np.float64)) / norm)
    return sorted(scores, reverse=True)[:count]
