"""Neighbour and transition lists: other items of an item's own cluster, the popular ones more often."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.generate.factors import Catalogue

BLOCK_ROWS = 65_536
Lists = tuple[NDArray[np.int32], NDArray[np.float32]]


def generate(catalogue: Catalogue, count: int, rng: np.random.Generator) -> Lists:
    """(n, count) int32 rows, best first, -1 where a cluster is small, and (n, count) float32 falling weights, 0 at -1."""
    order = np.lexsort((-catalogue.popularity, catalogue.clusters)).astype(np.int32)
    edges = np.searchsorted(catalogue.clusters[order], np.arange(catalogue.clusters.max() + 2))
    lists = np.empty((len(order), count), dtype=np.int32)
    weights = np.empty((len(order), count), dtype=np.float32)
    for at in range(0, len(order), BLOCK_ROWS):
        own = order[at : at + BLOCK_ROWS]
        begin = edges[catalogue.clusters[own]]
        others = edges[catalogue.clusters[own] + 1] - begin - 1
        places = _places(others, np.arange(at, at + len(own)) - begin, count, rng)
        known = places >= 0
        lists[own] = np.where(known, order[np.where(known, begin[:, None] + places, 0)], -1)
        weights[own] = np.where(known, _weights(places.shape, rng), 0)
    return lists, weights


def _places(
    others: NDArray[np.int64], own: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(m, count) distinct places within a cluster by falling popularity, never `own` (m,); -1 behind the last."""
    at = np.arange(count)
    drawn = others[:, None] * ((at + rng.random((len(others), count), dtype=np.float32)) / count) ** 3
    # Distinct: each place lies behind the one before.
    places = np.maximum.accumulate(drawn.astype(np.int64) - at, axis=1) + at
    places = np.where(places < others[:, None], places, -1)
    return np.where(places >= own[:, None], places + 1, places)


def _weights(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    falling = 0.3 * (1.0 + np.arange(shape[1])) ** -0.7
    return (falling * rng.uniform(0.7, 1.0, (shape[0], 1))).astype(np.float32)
