"""Item factors as iALS leaves them: items lie in clusters of very unequal size, the spectrum decays, norms have a heavy tail.

Real factors to be like (23,715 items of Amazon Video Games, iALS, 64 dimensions): median norm 0.08, 99th percentile 1.4.
Resampled to a million, the 20,000 items of largest norm hold 97 % of an exact top-200, and the 50,000 of largest norm all.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

NORM_MEDIAN, NORM_P99 = 0.08, 1.4
NORM_MAX = 3.0  # where the tail ends: a fit with regularisation has no item of a norm of 30
FLAT_SIGMA = 0.15
ITEMS_PER_CLUSTER, CLUSTERS_MIN, CLUSTERS_MAX = 300, 8, 3_000
CLUSTER_POWER = 0.7  # the size of the k-th largest cluster falls with k to this
SPECTRUM_POWER = 0.35  # the j-th dimension's deviation falls with j to this, before the draw of clusters
NOISE = 0.9  # of an item about its cluster's centre, in units of the centre's own length
BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Catalogue:
    """n items by falling norm."""

    factors: NDArray[np.float32]  # (n, d)
    norms: NDArray[np.float32]  # (n,) falling
    clusters: NDArray[np.int32]  # (n,)
    popularity: NDArray[np.float32]  # (n,) share of events, sums to 1


def generate(items: int, factors: int, norms: str, rng: np.random.Generator) -> Catalogue:
    """The items of one catalogue."""
    lengths = np.sort(_norms(items, norms, rng))[::-1].astype(np.float32)
    clusters = _clusters(items, rng)
    found = _directions(clusters, factors, rng)
    found *= lengths[:, None]
    return Catalogue(found, lengths, clusters, _popularity(items, rng))


def _norms(items: int, kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    if kind == "equal":
        return np.ones(items)
    normal = rng.standard_normal(items)
    if kind == "flat":
        return np.exp(FLAT_SIGMA * normal)
    # The tail is bent towards NORM_MAX; the 99th percentile is aimed so much higher that it still comes out as said.
    aimed = NORM_P99 / np.sqrt(1 - (NORM_P99 / NORM_MAX) ** 2)
    sigma = np.log(aimed / NORM_MEDIAN) / NormalDist().inv_cdf(0.99)
    drawn = NORM_MEDIAN * np.exp(sigma * normal)
    return np.asarray(drawn / np.sqrt(1 + (drawn / NORM_MAX) ** 2))


def _clusters(items: int, rng: np.random.Generator) -> NDArray[np.int32]:
    count = int(np.clip(items // ITEMS_PER_CLUSTER, CLUSTERS_MIN, CLUSTERS_MAX))
    weights = np.arange(1, count + 1) ** -CLUSTER_POWER
    edges = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(edges, rng.random(items)), count - 1).astype(np.int32)


def _directions(clusters: NDArray[np.int32], d: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n, d) float32 unit vectors about their clusters' centres."""
    spectrum = (np.arange(1, d + 1) ** -SPECTRUM_POWER).astype(np.float32)
    spectrum /= np.linalg.norm(spectrum)
    centres = rng.standard_normal((int(clusters.max()) + 1, d), dtype=np.float32) * spectrum
    out = np.empty((len(clusters), d), dtype=np.float32)
    for at in range(0, len(clusters), BLOCK_ROWS):
        block = out[at : at + BLOCK_ROWS]
        rng.standard_normal(block.shape, dtype=np.float32, out=block)
        block *= spectrum * np.float32(NOISE)
        block += centres[clusters[at : at + BLOCK_ROWS]]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return out


def _popularity(items: int, rng: np.random.Generator) -> NDArray[np.float32]:
    # Zipf's law over a rank that follows the norm's, but loosely: what is known well is not always what is bought most.
    ranks = np.argsort(np.argsort(np.log(np.arange(1, items + 1)) + 0.7 * rng.standard_normal(items)))
    weights = (ranks + 10.0) ** -0.9
    return np.asarray(weights / weights.sum(), dtype=np.float32)
