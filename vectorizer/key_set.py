"""A set of int32 for one request: an open-addressing hash table that kernels ask, as long as it has to be and no longer.

A slot holds a key plus one, or 0; a table is a power of two long and at most half of it is taken.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from vectorizer.model import Int32

SLOT_COUNT_MIN = 256  # 1 KiB; most requests block a few dozen
HASH_MIX = np.uint32(
    2_654_435_769
)  # 2**32 / golden ratio (Knuth, TAOCP 3, 6.4): neighbouring keys land far apart


@njit(cache=True, nogil=True, inline="always")
def slot_of(key: int, table: Int32) -> int:
    """The slot of `key` in table, or the empty one where it would go."""
    last: int = table.shape[0] - 1
    at: int = int((np.uint32(key) * HASH_MIX) >> np.uint32(12)) & last
    while table[at] != 0 and table[at] != key + 1:
        at = (at + 1) & last
    return at


@njit(cache=True, nogil=True)
def put_keys(keys: Int32, table: Int32, taken: int) -> int:
    """Puts keys (m,) int32 >= 0 into table (2**p,) int32, of which `taken` slots are full; returns how many are now.

    -1 when more than half of the table would be taken; then some of the keys are in it.
    """
    for i in range(keys.shape[0]):
        if keys[i] < 0:
            continue
        at = slot_of(keys[i], table)
        if table[at] == 0:
            if 2 * (taken + 1) > table.shape[0]:
                return -1
            table[at] = keys[i] + 1
            taken += 1
    return taken


class KeySet:
    """Makes one table at a time; the memory is kept for the next."""

    def __init__(self) -> None:
        self._slots: NDArray[np.int32] = np.zeros(SLOT_COUNT_MIN, dtype=np.int32)

    def of(self, keys: Int32) -> Int32:
        """The table of keys (m,) int32, negative ones left out; until the next call."""
        slot_count = max(SLOT_COUNT_MIN, 1 << (2 * len(keys)).bit_length())
        if slot_count > len(self._slots):
            self._slots = np.zeros(slot_count, dtype=np.int32)
        table = self._slots[:slot_count]
        table[:] = 0
        put_keys(keys, table, 0)
        return table
