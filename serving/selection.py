"""Which candidates are answered, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving import limits
from serving.candidates import Candidates
from serving.catalogue import Catalogue
from serving.kernels import select_diverse
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
    order = np.argsort(-scores, kind="stable")
    if min_score is not None:
        order = order[scores[order] >= min_score]
    if diversity <= 0 or len(order) <= 1:
        return order[:count]
    pool = order[: limits.POOL_COUNT_MAX]
    return pool[_diverse(candidates, scores, pool, min(count, len(pool)), diversity, model, catalogue)]


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
