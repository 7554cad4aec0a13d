"""Serving's loops: plain arrays in, plain arrays out, nothing allocated, without the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def mark_lists(
    starts: np.ndarray, counts: np.ndarray, pool: np.ndarray, code: np.int32, out: np.ndarray
) -> None:
    """Sets out[i] where pool[starts[i] : starts[i] + counts[i]] holds `code`.

    starts (n,) int64, counts (n,) int32, pool (p,) int32; out (>= n,) bool, false before.
    """
    for i in range(starts.shape[0]):
        for at in range(starts[i], starts[i] + counts[i]):
            if pool[at] == code:
                out[i] = True
                break


@njit(cache=True, nogil=True)
def rows_of(keys: np.ndarray, row_by_key: np.ndarray, rows: np.ndarray) -> None:
    """Writes the row of each key to rows (m,) int32, -1 where the model does not know it; keys (m,) int32."""
    for i in range(keys.shape[0]):
        key = keys[i]
        rows[i] = row_by_key[key] if 0 <= key < row_by_key.shape[0] else -1


@njit(cache=True, nogil=True)
def mark_keys(keys: np.ndarray, value: np.uint8, marks: np.ndarray) -> None:
    """Sets marks[key] = value for keys (m,) int32; keys beyond marks (n,) uint8 are passed over."""
    for i in range(keys.shape[0]):
        if 0 <= keys[i] < marks.shape[0]:
            marks[keys[i]] = value


@njit(cache=True, nogil=True)
def merge_keys(
    found: np.ndarray,
    bit: np.uint8,
    room: int,
    eligible: np.ndarray,
    blocked: np.ndarray,
    slots: np.ndarray,
    keys: np.ndarray,
    bits: np.ndarray,
    size: int,
) -> int:
    """Appends at most `room` of `found` to keys[:size] and returns the new size.

    A key goes in when it is eligible (n,) bool, not blocked (n,) uint8 and not there yet: slots (n,) int32 holds its
    place plus one, 0 for none. A key that is there already gets `bit` in bits (c,) uint8 as well.
    """
    for i in range(found.shape[0]):
        key = found[i]
        if key < 0 or key >= eligible.shape[0] or not eligible[key] or blocked[key] != 0:
            continue
        if slots[key] != 0:
            bits[slots[key] - 1] |= bit
            continue
        if room <= 0 or size == keys.shape[0]:
            continue
        keys[size], bits[size] = key, bit
        size += 1
        room -= 1
        slots[key] = size
    return size


@njit(cache=True, nogil=True)
def fill_keys(
    found: np.ndarray,
    bit: np.uint8,
    room: int,
    eligible: np.ndarray,
    blocked: np.ndarray,
    slots: np.ndarray,
    keys: np.ndarray,
    bits: np.ndarray,
    size: int,
) -> int:
    """As `merge_keys`, but stops at the first key without room: for lists as long as the catalogue."""
    for i in range(found.shape[0]):
        if room <= 0 or size == keys.shape[0]:
            break
        key = found[i]
        if key < 0 or key >= eligible.shape[0] or not eligible[key]:
            continue
        if blocked[key] != 0 or slots[key] != 0:
            continue
        keys[size], bits[size] = key, bit
        size += 1
        room -= 1
        slots[key] = size
    return size


@njit(cache=True, nogil=True)
def clear_slots(keys: np.ndarray, size: int, slots: np.ndarray) -> None:
    """Takes keys[:size] out of slots again."""
    for i in range(size):
        slots[keys[i]] = 0


@njit(cache=True, nogil=True)
def likeness(
    i: int, j: int, factors: np.ndarray, norms: np.ndarray, rows: np.ndarray, categories: np.ndarray
) -> float:
    """How alike two candidates are, 0..1: cosine of factors where both have some, else shared categories (Jaccard)."""
    a, b = rows[i], rows[j]
    if a >= 0 and b >= 0 and norms[a] > 0 and norms[b] > 0:
        total = np.float32(0.0)
        for d in range(factors.shape[1]):
            total += factors[a, d] * factors[b, d]
        return max(float(total / (norms[a] * norms[b])), 0.0)
    both, either = categories[i] & categories[j], categories[i] | categories[j]
    shared = united = 0
    while either:
        united += int(either & np.uint64(1))
        shared += int(both & np.uint64(1))
        either >>= np.uint64(1)
        both >>= np.uint64(1)
    return shared / united if united else 0.0


@njit(cache=True, nogil=True)
def select_diverse(
    scores: np.ndarray,
    factors: np.ndarray,
    norms: np.ndarray,
    rows: np.ndarray,
    categories: np.ndarray,
    diversity: float,
    nearest: np.ndarray,
    chosen: np.ndarray,
) -> int:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998): writes the picks to `chosen`, returns how many.

    scores (k,) float32; factors (n, d), norms (n,) float32; rows (k,) int32, -1 without factors; categories (k,) uint64;
    diversity 0..1; nearest (k,) float64 is overwritten: likeness to the most alike pick, 2 for what is picked; chosen (m,)
    int64. Scores count by their place between the lowest and the highest, so that they weigh like likenesses do.
    """
    count = scores.shape[0]
    low, high = np.inf, -np.inf
    for i in range(count):
        nearest[i] = 0.0
        low, high = min(low, scores[i]), max(high, scores[i])
    span = max(high - low, 1e-9)
    size = 0
    while size < min(count, chosen.shape[0]):
        best, best_value = -1, -np.inf
        for i in range(count):
            if nearest[i] > 1.5:
                continue
            value = (1.0 - diversity) * (scores[i] - low) / span - diversity * nearest[i]
            if value > best_value:
                best, best_value = i, value
        chosen[size] = best
        size += 1
        nearest[best] = 2.0
        for i in range(count):
            if nearest[i] <= 1.5:
                nearest[i] = max(nearest[i], likeness(best, i, factors, norms, rows, categories))
    return size


@njit(cache=True, nogil=True)
def pack_keys(keys: np.ndarray, out: np.ndarray) -> int:
    """Writes ascending distinct keys (m,) int32 as varints of their differences; returns the bytes used, -1 if out is full."""
    size = 0
    before = 0
    for i in range(keys.shape[0]):
        delta = keys[i] - before
        before = keys[i]
        while True:
            if size == out.shape[0]:
                return -1
            low = delta & 0x7F
            delta >>= 7
            out[size] = low | 0x80 if delta else low
            size += 1
            if delta == 0:
                break
    return size


@njit(cache=True, nogil=True)
def unpack_keys(data: np.ndarray, out: np.ndarray) -> int:
    """Reads what `pack_keys` wrote from data (b,) uint8 to out (>= b,) int32; returns how many, -1 if it is damaged."""
    size = at = 0
    key = np.int64(0)
    while at < data.shape[0]:
        delta = np.int64(0)
        shift = 0
        while True:
            if at == data.shape[0] or shift > 28:
                return -1
            byte = np.int64(data[at])
            at += 1
            delta |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        key += delta
        if key > 0x7FFFFFFF:
            return -1
        out[size] = key
        size += 1
    return size
