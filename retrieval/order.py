"""A model with its rows by falling norm, as retrieval scans them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vectorizer import ModelArrays

ROW_NUMBERS = ("neighbours", "transitions", "popularity_order")  # arrays whose values are rows
WHOLE = frozenset(
    {"gram", "bucket_totals", "forest_features", "forest_borders", "forest_leaves"}
)  # not by item


def by_norm(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of ModelArrays.to_arrays() with rows by falling norm, equal ones by key, and row numbers renumbered."""
    ModelArrays.from_arrays(arrays, {})  # says what is missing
    order = np.lexsort((arrays["item_keys"], -arrays["factor_norms"]))
    places = _places(order)
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        moved = array if name in WHOLE or name == "popularity_order" else array[order]
        found[name] = places[moved] if name in ROW_NUMBERS else moved
    return found


def _places(order: NDArray[np.int64]) -> NDArray[np.int32]:
    """Old row -> new row; -1, which stands for none, stays."""
    places = np.empty(len(order) + 1, dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    places[-1] = -1
    return places
