"""Candidate sources over plain arrays: each keeps the n best of what it sees, ties to the lower row."""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer import table
from vectorizer.keys import Keys, offer, write_best
from vectorizer.lanes import prefetch
from vectorizer.limits import LANE_COUNT
from vectorizer.model import Float32, Int32

# One bit for each source of a candidate; serving's own (trending, new, promoted) start at 16.
PERSONAL = 1
TRANSITION = 2
SIMILAR = 4
POPULAR = 8
SOURCES = np.uint8(15)
# Two more bits of the table: a row that may not be answered, and one that is a candidate already.
BLOCKED, CHOSEN = np.uint8(128), np.uint8(64)

# Columns of the accumulator: what the recent events' sparse lists add up to for an item.
TRANSITION_LAST, TRANSITION_FAST, TRANSITION_SLOW = 0, 1, 2
SIMILAR_LAST, SIMILAR_FAST, SIMILAR_SLOW, SIMILAR_LONG, SIMILAR_LIKED = 3, 4, 5, 6, 7
ACCUMULATOR_COUNT = 8
DECAY_FAST, DECAY_SLOW, DECAY_LONG = (
    0.7,
    0.2,
    0.03,
)  # by position; fast is a session's last few, long the whole ring


@njit(cache=True, nogil=True, fastmath=True)
def inner_product(left: Float32, right: Float32) -> np.float32:
    """The inner product of two (d,) float32 vectors."""
    total = np.float32(0.0)
    for i in range(left.shape[0]):
        total += left[i] * right[i]
    return total


@njit(cache=True, nogil=True)
def _is_barred(row: int, hidden: np.ndarray, slots: Int32, state: Int32, bits: np.ndarray) -> bool:
    if hidden.shape[0] > 0 and hidden[row] != 0:
        return True
    place = table.find(slots, state, row)
    return bool(place >= 0 and bits[place] & BLOCKED)


@njit(cache=True, nogil=True)
def best_personal(
    vector: Float32,
    factors: Float32,
    hidden: np.ndarray,
    slots: Int32,
    state: Int32,
    bits: np.ndarray,
    keys: Keys,
    spare: Keys,
    best_rows: Int32,
) -> int:
    """The exact best rows by inner product that are neither hidden nor blocked, best first; returns how many.

    vector (d,), factors (n, d) float32; hidden (n,) or (0,) uint8; slots, state, bits: see table; keys (more than
    limit,), spare (limit,) uint64 and best_rows (limit,) are overwritten.
    """
    size, limit = 0, best_rows.shape[0]
    threshold = np.float32(-np.inf)
    for row in range(factors.shape[0]):
        score = inner_product(vector, factors[row])
        if score < threshold or _is_barred(row, hidden, slots, state, bits):
            continue
        size, threshold = offer(score, row, keys, size, limit, threshold)
    return write_best(keys, size, spare, best_rows)


@njit(cache=True, nogil=True)
def _ask_for(lists: np.ndarray, row: np.uint64) -> None:
    # The lines where a list begins and, of a short one, ends: a large catalogue's lists are in no cache. The processor
    # itself asks for what follows in a long one.
    start, length = row * np.uint64(lists.shape[1]), np.uint64(lists.shape[1])
    if length > 0:
        prefetch(lists, start)
        prefetch(lists, start + min(length - np.uint64(1), np.uint64(LANE_COUNT)))


@njit(cache=True, nogil=True)
def accumulate(  # noqa: C901  # a kernel: one loop nest
    rows: Int32,
    likings: Float32,
    transitions: Int32,
    transition_weights: Float32,
    neighbours: Int32,
    neighbour_weights: Float32,
    slots: Int32,
    state: Int32,
    table_rows: Int32,
    sums: Float32,
    bits: np.ndarray,
) -> None:
    """Empties the table and adds the recent events' lists up in its sums.

    rows (m,) int32 oldest first, -1 skipped; likings (m,) float32; lists (n, T) and (n, K); the rest as in table.add.
    """
    table.begin(slots, state)
    count = rows.shape[0]
    for m in range(count):
        if rows[m] >= 0:
            at = np.uint64(rows[m])
            _ask_for(transitions, at)
            _ask_for(transition_weights, at)
            _ask_for(neighbours, at)
            _ask_for(neighbour_weights, at)
    for m in range(count - 1, -1, -1):
        row = rows[m]
        if row < 0:
            continue
        position = count - 1 - m
        fast = np.float32(np.exp(-DECAY_FAST * position))
        slow = np.float32(np.exp(-DECAY_SLOW * position))
        long = np.float32(np.exp(-DECAY_LONG * position))
        for k in range(transitions.shape[1]):
            other = transitions[row, k]
            if other < 0:
                break
            place = table.add(slots, state, table_rows, sums, bits, other)
            weight = transition_weights[row, k]
            if position == 0:
                sums[place, 0] += weight
            sums[place, 1] += fast * weight
            sums[place, 2] += slow * weight
        for k in range(neighbours.shape[1]):
            other = neighbours[row, k]
            if other < 0:
                break
            place = table.add(slots, state, table_rows, sums, bits, other)
            weight = neighbour_weights[row, k]
            if position == 0:
                sums[place, 3] += weight
            sums[place, 4] += fast * weight
            sums[place, 5] += slow * weight
            sums[place, 6] += long * weight
            sums[place, 7] += long * weight * likings[m]


@njit(cache=True, nogil=True)
def block(
    rows: Int32, slots: Int32, state: Int32, table_rows: Int32, sums: Float32, bits: np.ndarray
) -> None:
    """Marks rows (b,) int32 as not to be answered; -1 is skipped."""
    for i in range(rows.shape[0]):
        if rows[i] >= 0:
            bits[table.add(slots, state, table_rows, sums, bits, rows[i])] |= BLOCKED


@njit(cache=True, nogil=True)
def best_accumulated(
    column: int,
    hidden: np.ndarray,
    state: Int32,
    table_rows: Int32,
    sums: Float32,
    bits: np.ndarray,
    keys: Keys,
    spare: Keys,
    best_rows: Int32,
) -> int:
    """The rows with the largest positive sums in one column that may be answered, best first; returns how many.

    keys (more than limit,), spare (limit,) uint64 and best_rows (limit,) are overwritten.
    """
    size, limit = 0, best_rows.shape[0]
    threshold = np.float32(0.0)
    for place in range(state[table.SIZE]):
        score = sums[place, column]
        if score < threshold or score == 0 or bits[place] & BLOCKED:
            continue
        row = table_rows[place]
        if hidden.shape[0] > 0 and hidden[row] != 0:
            continue
        size, threshold = offer(score, row, keys, size, limit, threshold)
    return write_best(keys, size, spare, best_rows)


@njit(cache=True, nogil=True)
def merge(
    found: Int32,
    bit: int,
    room: int,
    hidden: np.ndarray,
    slots: Int32,
    state: Int32,
    table_rows: Int32,
    sums: Float32,
    bits: np.ndarray,
    places: Int32,
    size: int,
) -> int:
    """Sets `bit` for the rows of `found` that may be answered and appends the new ones while there is room.

    At most `room` rows of `found` count, and places (limit,), the candidates' places in the table, bounds them all;
    returns the new size.
    """
    for i in range(min(found.shape[0], room)):
        row = found[i]
        if hidden.shape[0] > 0 and hidden[row] != 0:
            continue
        place = table.add(slots, state, table_rows, sums, bits, row)
        if bits[place] & BLOCKED:
            continue
        if bits[place] & CHOSEN == 0:
            if size == places.shape[0]:
                continue
            places[size] = place
            size += 1
        bits[place] |= np.uint8(bit) | CHOSEN
    return size


@njit(cache=True, nogil=True)
def unite(
    quotas: Int32,
    personal: Int32,
    popularity_order: Int32,
    hidden: np.ndarray,
    slots: Int32,
    state: Int32,
    table_rows: Int32,
    sums: Float32,
    bits: np.ndarray,
    keys: Keys,
    spare: Keys,
    best_rows: Int32,
    candidates: Int32,
    places: Int32,
    marks: np.ndarray,
) -> int:
    """The union of the sources by their quotas, filled up by who has more, then by the popular; returns its size.

    quotas (3,) int32 of personal, transition and similar; personal (p,) int32 best first; `accumulate` and `block` of
    the same request have run. candidates and marks (limit,) receive rows and source bits; keys (more than limit,),
    spare, best_rows and places (limit,) are overwritten.
    """
    limit = candidates.shape[0]
    size = merge(personal, PERSONAL, quotas[0], hidden, slots, state, table_rows, sums, bits, places, 0)
    for column, bit, quota in (
        (TRANSITION_SLOW, TRANSITION, quotas[1]),
        (SIMILAR_SLOW, SIMILAR, quotas[2]),
    ):
        rows = best_rows[:quota]
        count = best_accumulated(column, hidden, state, table_rows, sums, bits, keys, spare, rows)
        size = merge(rows[:count], bit, quota, hidden, slots, state, table_rows, sums, bits, places, size)
    if size < limit:
        rest = personal[quotas[0] :]
        size = merge(rest, PERSONAL, limit, hidden, slots, state, table_rows, sums, bits, places, size)
    for column, bit in ((TRANSITION_SLOW, TRANSITION), (SIMILAR_SLOW, SIMILAR)):
        if size < limit:
            rows = best_rows[:limit]
            count = best_accumulated(column, hidden, state, table_rows, sums, bits, keys, spare, rows)
            size = merge(rows[:count], bit, limit, hidden, slots, state, table_rows, sums, bits, places, size)
    for i in range(popularity_order.shape[0]):
        if size == limit:
            break
        # One at a time, and only what may be answered: the table has room for that, not for the whole catalogue.
        row = popularity_order[i]
        place = table.find(slots, state, row)
        if place < 0 or bits[place] & (BLOCKED | CHOSEN) == 0:
            one = popularity_order[i : i + 1]
            size = merge(one, POPULAR, 1, hidden, slots, state, table_rows, sums, bits, places, size)
    for c in range(size):
        candidates[c] = table_rows[places[c]]
        marks[c] = bits[places[c]] & SOURCES
    return size
