"""Which candidates are answered, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving import limits
from serving.candidates import Candidates
from serving.catalogue import Catalogue
from serving.kernels import select_diverse, select_top
from serving.model import LoadedModel

NO_FACTORS = np.zeros((0, 1), dtype=np.float32)
NO_NORMS = np.zeros(0, dtype=np.float32)
Places = NDArray[np.int64]


def select(
    candidates: Candidates,
    scores: NDArray[np.float32],
    count: int,
    min_score: float | None,
    diversity: float,
    model: LoadedModel | None,
    catalogue: Catalogue,
) -> Places:
    """(c,) int64 places in `candidates`, c <= count, best first; equal scores stand in the order of the candidates."""
    pool = _best(scores, count if diversity <= 0 else limits.POOL_COUNT_MAX, min_score)
    if diversity <= 0 or len(pool) <= 1:
        return pool
    return pool[_diverse(candidates, scores, pool, min(count, len(pool)), diversity, model, catalogue)]


def _best(scores: NDArray[np.float32], count: int, min_score: float | None) -> Places:
    chosen = np.empty(min(count, len(scores)), dtype=np.int64)
    return chosen[: select_top(scores, -np.inf if min_score is None else min_score, chosen)]


def _diverse(
    candidates: Candidates,
    scores: NDArray[np.float32],
    pool: Places,
    count: int,
    diversity: float,
    model: LoadedModel | None,
    catalogue: Catalogue,
) -> Places:
    factors = model.arrays.factors if model else NO_FACTORS
    norms = model.arrays.factor_norms if model else NO_NORMS
    chosen = np.empty(count, dtype=np.int64)
    size = select_diverse(
        scores[pool],
        factors,
        norms,
        candidates.rows[pool],
        catalogue.category_bits[candidates.keys[pool]],
        float(diversity),
        np.empty(len(pool)),
        chosen,
    )
    return chosen[:size]
