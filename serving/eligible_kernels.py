"""Loops that keep what a filter leaves up to date: plain arrays in, plain arrays out, without the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Keys = NDArray[np.int32]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Marks = NDArray[np.uint8]

SHOWN, HIDDEN, HIDDEN_SINCE = (
    0,
    1,
    2,
)  # of a row: may be answered, may not, may not but is among the shown rows


@njit(cache=True, nogil=True)
def change_keys(
    keys: Keys, rows: Keys, passes: Mask, mask: Mask, marks: Marks, was: Mask, gained: Keys
) -> tuple[int, int, int]:
    """Takes over that keys (m,) int32 of rows (m,) int32, -1 for none, pass or not: passes (m,) bool.

    mask (size,) bool over keys and marks (n,) uint8 over rows are written; was (m,) bool receives what mask held, gained
    (>= m,) int32 the rows that were HIDDEN before. Returns how many more keys pass, how many more rows pass, and how many rows
    were gained.
    """
    more_keys = more_rows = count = 0
    for i in range(keys.shape[0]):
        was[i] = mask[keys[i]]
        mask[keys[i]] = passes[i]
        more_keys += int(passes[i]) - int(was[i])
        row = rows[i]
        if row < 0:
            continue
        before = marks[row]
        if passes[i] and before != SHOWN:
            marks[row] = SHOWN
            more_rows += 1
            if before == HIDDEN:
                gained[count] = row
                count += 1
        elif not passes[i] and before == SHOWN:
            marks[row] = HIDDEN_SINCE
            more_rows -= 1
    return more_keys, more_rows, count


@njit(cache=True, nogil=True)
def _place_of(value: float, key: int, keys: Keys, values: Values, size: int) -> int:
    """Where the key with this value is, or would be: values rise, equal ones by falling key."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value or (values[middle] == value and keys[middle] > key):
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _taken_out(key: int, value: float, keys: Keys, values: Values, size: int, fixed: bool) -> int:
    """The list without the key, whose value may have been another unless they are fixed; returns its size."""
    at = _place_of(value, key, keys, values, size)
    if at == size or keys[at] != key:
        if fixed:
            return size
        at = 0
        while at < size and keys[at] != key:
            at += 1
    if at == size:  # it was beyond the list
        return size
    for j in range(at, size - 1):
        keys[j], values[j] = keys[j + 1], values[j + 1]
    return size - 1


@njit(cache=True, nogil=True)
def _put_in(key: int, value: float, keys: Keys, values: Values, size: int, more: bool) -> tuple[int, bool]:
    """The list with the key at its place; returns its size, and whether more pass than it holds."""
    at = _place_of(value, key, keys, values, size)
    if at == size and more:  # who lies between is not known
        return size, more
    if size == keys.shape[0]:
        more = True
        size -= 1
        if at > size:
            return size + 1, more
    for j in range(size, at, -1):
        keys[j], values[j] = keys[j - 1], values[j - 1]
    keys[at], values[at] = key, value
    return size + 1, more


@njit(cache=True, nogil=True)
def change_list(
    changed: Keys,
    changed_values: Values,
    was: Mask,
    passes: Mask,
    keys: Keys,
    values: Values,
    size: int,
    more: bool,
    fixed: bool,
) -> tuple[int, bool]:
    """Keeps a list of the first passing keys by rising value; returns its size, and whether more pass than it holds.

    changed (m,) int32 with changed_values (m,) float64, NaN for keys that do not belong here; was, passes (m,) bool;
    keys (room,) int32 and values (room,) float64 are the list, `size` long; `fixed`: a key's value never changes.
    """
    for i in range(changed.shape[0]):
        key, value = changed[i], changed_values[i]
        if np.isnan(value):
            continue
        if was[i]:
            at = _place_of(value, key, keys, values, size)
            if passes[i] and at < size and keys[at] == key and values[at] == value:
                continue
            size = _taken_out(key, value, keys, values, size, fixed)
        if passes[i]:
            size, more = _put_in(key, value, keys, values, size, more)
    return size, more


@njit(cache=True, nogil=True)
def first_shown(order: Keys, marks: Marks, rows: Keys) -> tuple[int, bool]:
    """Writes the first rows of order (n,) int32 that marks (n,) uint8 leave to rows (room,) int32; returns how many, and
    whether there may be more."""
    size = 0
    for i in range(order.shape[0]):
        if marks[order[i]] != SHOWN:
            continue
        if size == rows.shape[0]:
            return size, True
        rows[size] = order[i]
        size += 1
    return size, False
