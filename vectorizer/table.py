"""The rows that one request meets, and a place for each: open addressing with linear probing.

Cost and memory follow what a request touches, not the catalogue. A slot holds a row and a stamp; the stamp is the row's
place plus a base that every request moves beyond all stamps given so far, so that nothing has to be cleared between
requests.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.limits import TABLE_BIT_COUNT, TABLE_ROW_COUNT_MAX
from vectorizer.model import Float32, Int32

SLOT_COUNT = 1 << TABLE_BIT_COUNT
STAMP_MAX = 2**31 - 1 - TABLE_ROW_COUNT_MAX
BASE, SIZE = 0, 1  # of the state
_SHIFT = 32 - TABLE_BIT_COUNT


@njit(cache=True, nogil=True)
def slot_of(row: int) -> int:
    """The slot at which the search for a row begins: the upper bits of a product by 2**32 / golden ratio."""
    return int(
        np.int64(((np.uint64(row) * np.uint64(2654435769)) & np.uint64(0xFFFFFFFF)) >> np.uint64(_SHIFT))
    )


@njit(cache=True, nogil=True)
def begin(slots: Int32, state: Int32) -> None:
    """Empties the table. slots (SLOT_COUNT, 2) and state (2,) int32 are zero before the first call."""
    state[BASE] += max(state[SIZE], 1)
    state[SIZE] = 0
    if state[BASE] > STAMP_MAX:
        slots[:, :] = 0
        state[BASE] = 1


@njit(cache=True, nogil=True)
def find(slots: Int32, state: Int32, row: int) -> int:
    """The row's place, -1 if it was not added since `begin`."""
    at = slot_of(row)
    while slots[at, 1] >= state[BASE]:
        if slots[at, 0] == row:
            return int(slots[at, 1] - state[BASE])
        at = (at + 1) & (SLOT_COUNT - 1)
    return -1


@njit(cache=True, nogil=True)
def add(slots: Int32, state: Int32, table_rows: Int32, sums: Float32, bits: np.ndarray, row: int) -> int:
    """The row's place; a new one has zero sums and bits. At most TABLE_ROW_COUNT_MAX distinct rows a request.

    table_rows (TABLE_ROW_COUNT_MAX,) int32, sums (the same, 8) float32, bits (the same,) uint8.
    """
    at = slot_of(row)
    while slots[at, 1] >= state[BASE]:
        if slots[at, 0] == row:
            return int(slots[at, 1] - state[BASE])
        at = (at + 1) & (SLOT_COUNT - 1)
    place = state[SIZE]
    slots[at, 0] = row
    slots[at, 1] = state[BASE] + place
    state[SIZE] = place + 1
    table_rows[place] = row
    bits[place] = 0
    for column in range(8):
        sums[place, column] = np.float32(0.0)
    return int(place)
