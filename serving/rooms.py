"""Arrays with room to grow, in the smallest type that holds their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A growing array gets an eighth of its size as room: nine copies of a value in its life, an eighth of memory unused. What
# is mapped from a snapshot has the same room, so that new items do not begin with copies of whole columns.
ROOM_PART = 8
ROOM_COUNT_MIN = 1_024
FEW = 8  # so many values are put one by one: numpy takes longer to begin with than that

# Asked for with each single change, where numpy's own answer would take most of the time.
WHOLE_MAX = {np.dtype(t): int(np.iinfo(t).max) for t in (np.uint8, np.uint16, np.uint32, np.int64)}


def room_for(size: int) -> int:
    """How long an array is made that must hold `size` values."""
    return size + max(ROOM_COUNT_MIN, size // ROOM_PART)


def grown(array: np.ndarray, size: int, fill: float) -> np.ndarray:
    """The array with room for `size` values, the new ones `fill`; where it must grow, with room for more."""
    return array if size <= len(array) else lengthened(array, room_for(size), fill)


def lengthened(array: np.ndarray, length: int, fill: float) -> np.ndarray:
    """The array, `length` long if it was shorter, the new values `fill`."""
    if length <= len(array):
        return array
    # Zeros cost no memory before they are written over.
    longer = np.zeros(length, array.dtype) if fill == 0 else np.full(length, fill, array.dtype)
    longer[: len(array)] = array
    return longer


def widened(array: np.ndarray, value_max: int) -> np.ndarray:
    """The array of whole numbers from 0 on in a type that holds `value_max` as well."""
    if value_max <= WHOLE_MAX[array.dtype]:
        return array
    return array.astype(
        next(t for t in (np.uint16, np.uint32, np.int64) if value_max <= WHOLE_MAX[np.dtype(t)])
    )


def store(array: np.ndarray, keys: NDArray[np.int64], values: Any) -> None:
    """array[keys] = values, where that changes something: pages mapped from a file stay shared until they are written."""
    if len(keys) <= FEW:
        for key, value in zip(keys.tolist(), values, strict=True):
            if array.item(key) != value:
                array[key] = value
        return
    values = np.asarray(values, dtype=array.dtype)
    changed = array[keys] != values
    array[keys[changed]] = values[changed]
