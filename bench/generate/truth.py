"""The exact answer: which rows have the largest inner product with a query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 32_768  # 128 queries against so many rows: 16 MiB of products
BLOCK_QUERIES = 128


def exact_top(
    factors: NDArray[np.float32], norms: NDArray[np.float32], queries: NDArray[np.float32], count: int
) -> NDArray[np.int32]:
    """(q, count) int32 rows by falling inner product, float32. `factors` (n, d) by falling norm, `queries` (q, d).

    A block is left out only when even its largest norm can't bring any row of it into any query's answer (Cauchy and
    Schwarz), so the answer is exact.
    """
    count = min(count, len(factors))
    parts = [
        _top_of_block(factors, norms, queries[at : at + BLOCK_QUERIES], count)
        for at in range(0, len(queries), BLOCK_QUERIES)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, count), np.int32)


def _top_of_block(
    factors: NDArray[np.float32], norms: NDArray[np.float32], queries: NDArray[np.float32], count: int
) -> NDArray[np.int32]:
    lengths = np.linalg.norm(queries, axis=1)
    best = np.full((len(queries), count), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), count), -1, dtype=np.int32)
    for at in range(0, len(factors), BLOCK_ROWS):
        alive = np.flatnonzero(norms[at] * lengths * 1.0001 >= best.min(axis=1))
        if not len(alive):
            break
        products = queries[alive] @ factors[at : at + BLOCK_ROWS].T
        for query, found in zip(alive, products, strict=True):
            near = np.flatnonzero(found > best[query].min())
            _keep(best[query], rows[query], found[near], (near + at).astype(np.int32))
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def _keep(
    best: NDArray[np.float32], rows: NDArray[np.int32], found: NDArray[np.float32], at: NDArray[np.int32]
) -> None:
    values, names = np.concatenate([best, found]), np.concatenate([rows, at])
    chosen = np.argpartition(-values, len(best) - 1)[: len(best)]
    best[:], rows[:] = values[chosen], names[chosen]
