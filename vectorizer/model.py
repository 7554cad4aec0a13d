"""Every array that serving needs of a trained model, with its shape and dtype.

n items, d factors, K neighbours, T transitions, B time buckets, t trees of depth p. A row is an item's position in
these arrays; `item_keys` says which stable item key stands at a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectorizer.limits import LIST_COUNT_MAX

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

_RANK = {
    "item_keys": (np.int32, 1),
    "popularity": (np.float32, 1),
    "popularity_order": (np.int32, 1),
    "factors": (np.float32, 2),
    "factor_norms": (np.float32, 1),
    "gram": (np.float32, 2),
    "neighbours": (np.int32, 2),
    "neighbour_weights": (np.float32, 2),
    "transitions": (np.int32, 2),
    "transition_weights": (np.float32, 2),
    "categories": (np.uint64, 1),
    "released": (np.float32, 1),
    "liking": (np.float32, 1),
    "first_times": (np.uint32, 1),
    "bucket_counts": (np.float32, 2),
    "bucket_totals": (np.float32, 1),
    "forest_features": (np.int32, 2),
    "forest_borders": (np.float32, 2),
    "forest_leaves": (np.float32, 2),
}

# Of a model that is published: the newest four weeks lie between five edges, and one more is for the event's own second.
BUCKET_EDGE_COUNT = 6

FOREST_ARRAYS = ("forest_features", "forest_borders", "forest_leaves")


class ModelError(ValueError):
    """The arrays do not fit together: whoever made the bundle is at fault; build it again."""


@dataclass(frozen=True)
class ModelArrays:
    """The arrays of one model; read-only, safe to share between threads and to map from files."""

    item_keys: Int32  # (n,) int32, row -> stable item key; ascending from a fit, in any order in a bundle
    popularity: Float32  # (n,) float32, share of all training events, sums to 1
    popularity_order: Int32  # (n,) int32, rows by descending popularity
    factors: Float32  # (n, d) float32, iALS item factors
    factor_norms: Float32  # (n,) float32, L2 norm of each row of factors
    gram: Float32  # (d, d) float32, factors' Gram matrix plus the regularisation on its diagonal
    neighbours: Int32  # (n, K) int32, rows of similar items, best first, -1 where there are fewer
    neighbour_weights: Float32  # (n, K) float32, weight beside each neighbour, 0 at -1
    transitions: Int32  # (n, T) int32, rows of what follows an item, best first, -1 where there are fewer
    transition_weights: Float32  # (n, T) float32, weight beside each transition, 0 at -1
    categories: NDArray[np.uint64]  # (n,) uint64, one bit for each of at most 64 categories
    released: Float32  # (n,) float32, the item's release in years, 0 where unknown
    liking: Float32  # (n,) float32, mean liking of the item's events, -1..1, shrunk to the mean of all
    first_times: NDArray[np.uint32]  # (n,) uint32, unix seconds of the item's first event
    bucket_counts: Float32  # (n, B + 1) float32, the item's events before each bucket edge
    bucket_totals: Float32  # (B + 1,) float32, all events before each bucket edge
    forest_features: Int32  # (t, p) int32, feature tested at each level; t = 0: there is no ranker yet
    forest_borders: Float32  # (t, p) float32, true if the feature is above it
    forest_leaves: Float32  # (t, 2**p) float32, level i of the tree is bit i of the leaf's index
    params: dict[str, Any] = field(default_factory=dict)  # json scalars, see training/fit.py

    def __post_init__(self) -> None:
        for name, (dtype, rank) in _RANK.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != rank:
                expected = np.dtype(dtype).name
                raise ModelError(
                    f"{name} is {array.dtype} with {array.ndim} axes, expected {expected} with {rank}"
                )
            if name not in _NOT_BY_ITEM and len(array) != len(self.item_keys):
                raise ModelError(f"{name} has {len(array)} rows for {len(self.item_keys)} items")

        for name in ("neighbours", "transitions"):
            if getattr(self, name).shape[1] > LIST_COUNT_MAX:
                raise ModelError(
                    f"{name} are more than {LIST_COUNT_MAX} an item: a request has no room for them"
                )

    @property
    def item_count(self) -> int:
        return len(self.item_keys)

    @property
    def factor_count(self) -> int:
        return int(self.factors.shape[1])

    @property
    def has_ranker(self) -> bool:
        return len(self.forest_features) > 0

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, C-contiguous, ready for `.npy` files."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in _RANK}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], params: Mapping[str, Any]) -> ModelArrays:
        """The model of `to_arrays()` and `params`; ModelError names a missing or wrong array."""
        missing = sorted(set(_RANK) - set(arrays))
        if missing:
            raise ModelError(f"the model lacks the arrays {', '.join(missing)}")
        return cls(**{name: arrays[name] for name in _RANK}, params=dict(params))

    def with_forest(self, forest: Mapping[str, np.ndarray], params: Mapping[str, Any]) -> ModelArrays:
        """The same base model with a ranker: `forest` holds FOREST_ARRAYS, `params` is merged over ours."""
        return replace(
            self, **{name: forest[name] for name in FOREST_ARRAYS}, params={**self.params, **params}
        )

    def rows_of(self, keys: Int32) -> Int32:
        """(m,) item keys -> (m,) int32 rows, -1 where the model does not know the key."""
        if not len(self.item_keys):
            return np.full(len(keys), -1, dtype=np.int32)
        places = np.searchsorted(self.item_keys, keys, sorter=self._by_key)
        rows = self._by_key[np.minimum(places, len(self.item_keys) - 1)]
        return np.where(self.item_keys[rows] == keys, rows, -1).astype(np.int32)

    @cached_property
    def _by_key(self) -> Int32:
        return np.argsort(self.item_keys).astype(np.int32)

    def by_norm(self) -> ModelArrays:
        """The same model with its rows by falling factor norm, ties by key; every row number in it follows.

        Items of large norm are the ones that are retrieved, so what requests touch lies together in memory.
        """
        order = np.lexsort((self.item_keys, -self.factor_norms)).astype(np.int32)
        renumbered = np.full(len(order) + 1, -1, dtype=np.int32)  # the last stands for -1, which stays
        renumbered[order] = np.arange(len(order), dtype=np.int32)
        moved = {name: getattr(self, name)[order] for name in _RANK if name not in _NOT_BY_ITEM}
        for name in ("neighbours", "transitions"):
            moved[name] = renumbered[moved[name]]
        return replace(self, **(moved | {"popularity_order": renumbered[self.popularity_order]}))

    def trimmed(self) -> ModelArrays:
        """The same model with those bucket edges alone that a request after the last training event reads."""
        gone = len(self.bucket_totals) - BUCKET_EDGE_COUNT
        if gone <= 0:
            return self
        start_s = int(self.params["bucket_start_s"]) + gone * int(self.params["bucket_width_s"])
        return replace(
            self,
            bucket_counts=np.ascontiguousarray(self.bucket_counts[:, gone:]),
            bucket_totals=self.bucket_totals[gone:].copy(),
            params={**self.params, "bucket_start_s": start_s},
        )


_NOT_BY_ITEM = frozenset({"gram", "bucket_totals", *FOREST_ARRAYS})
assert set(_RANK) | {"params"} == {f.name for f in fields(ModelArrays)}


def empty_forest() -> dict[str, np.ndarray]:
    """The forest arrays of a model without a ranker."""
    return {
        "forest_features": np.zeros((0, 1), dtype=np.int32),
        "forest_borders": np.zeros((0, 1), dtype=np.float32),
        "forest_leaves": np.zeros((0, 2), dtype=np.float32),
    }
