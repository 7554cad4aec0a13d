"""A scored row as one number, and the best of many: a larger key is a better row, equal scores go to the lower row.

A key is one uint64: the score's bits, in an order that integers have too, above the complement of the row.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

INSERTION_COUNT = 8  # runs of so many keys are sorted by insertion before they are merged


@njit(cache=True, nogil=True)
def key_of(score: np.float32, row: int) -> np.uint64:
    """The key of a row with this score."""
    bits = np.float32(score + np.float32(0.0)).view(np.int32)  # -0.0 becomes 0.0
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    high = np.uint64(np.int64(ordered) + np.int64(0x80000000))
    return (high << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - np.uint64(row))


@njit(cache=True, nogil=True)
def score_of(key: np.uint64) -> np.float32:
    """The score of a key."""
    ordered = np.int32(np.int64(key >> np.uint64(32)) - np.int64(0x80000000))
    return np.int32(ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


@njit(cache=True, nogil=True)
def row_of(key: np.uint64) -> int:
    """The row of a key."""
    return np.int64(np.uint64(0xFFFFFFFF) - (key & np.uint64(0xFFFFFFFF)))  # type: ignore[return-value]  # numba's int


@njit(cache=True, nogil=True)
def keep_largest(keys: Keys, size: int, count: int) -> None:
    """Moves the `count` largest of keys[:size] to the front, the smallest of them last; 0 < count <= size."""
    low, high, at = 0, size - 1, count - 1
    while low < high:
        middle = keys[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while keys[i] > middle:
                i += 1
            while keys[j] < middle:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if at <= j:
            high = j
        elif at >= i:
            low = i
        else:
            return


@njit(cache=True, nogil=True)
def offer(
    score: np.float32, row: int, keys: Keys, size: int, count: int, threshold: np.float32
) -> tuple[int, np.float32]:
    """Appends a row to keys[:size]; returns the new size, and the score below which none need be offered any more.

    Whenever keys (more than count,) are full, the `count` largest stay and the smallest of them is the threshold: from then
    on most rows cost their caller one comparison, where a heap would sift.
    """
    keys[size] = key_of(score, row)
    if size + 1 < keys.shape[0]:
        return size + 1, threshold
    keep_largest(keys, keys.shape[0], count)
    return count, score_of(keys[count - 1])


@njit(cache=True, nogil=True)
def sort_falling(keys: Keys, size: int, spare: Keys) -> None:
    """Sorts keys[:size], largest first; spare (size or more,) is overwritten."""
    for start in range(0, size, INSERTION_COUNT):
        for i in range(start + 1, min(start + INSERTION_COUNT, size)):
            key, j = keys[i], i
            while j > start and keys[j - 1] < key:
                keys[j] = keys[j - 1]
                j -= 1
            keys[j] = key
    width = INSERTION_COUNT
    while width < size:
        for start in range(0, size, 2 * width):
            middle, end = min(start + width, size), min(start + 2 * width, size)
            i, j = start, middle
            for k in range(start, end):
                if i < middle and (j >= end or keys[i] > keys[j]):
                    spare[k] = keys[i]
                    i += 1
                else:
                    spare[k] = keys[j]
                    j += 1
        keys[:size] = spare[:size]
        width *= 2


@njit(cache=True, nogil=True)
def write_best(keys: Keys, size: int, spare: Keys, rows: NDArray[np.int32]) -> int:
    """Writes the rows of the largest keys[:size] to rows (limit,) int32, best first; returns how many, at most limit.

    keys are left in another order; spare (limit or more,) is overwritten.
    """
    count: int = min(size, rows.shape[0])
    if count < size and count > 0:
        keep_largest(keys, size, count)
    sort_falling(keys, count, spare)
    for i in range(count):
        rows[i] = np.int32(row_of(keys[i]))
    return count
