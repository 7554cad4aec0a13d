"""The loops of selection: plain arrays in, plain arrays out, nothing allocated, without the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.key_set import slot_of

ORGANIC, PINNED, PROMOTED, DRAWN = 0, 1, 2, 3  # how an item came to its place
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@njit(cache=True, nogil=True)
def uniform(seed: np.uint64, step: int) -> float:
    """The number of `step` in the sequence of `seed`, 0 <= it < 1: splitmix64 (Steele, Lea, Flood 2014), without a state."""
    z = seed + np.uint64(step + 1) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def number_runs(
    starts: np.ndarray,
    counts: np.ndarray,
    pool: np.ndarray,
    slots: np.ndarray,
    offsets: np.ndarray,
    numbers: np.ndarray,
) -> int:
    """Numbers the codes of runs from 0 on, as they first occur; returns how many distinct ones there are.

    starts and counts (k,) int64 say where in pool (p,) unsigned each run is. slots (2**b, 2) int64, at least twice as many as
    there are codes, is overwritten; offsets (k + 1,) int32 receives where each run's numbers (t,) int32 begin.
    """
    slots[:] = -1
    mask = slots.shape[0] - 1
    size = found = 0
    for i in range(starts.shape[0]):
        offsets[i] = size
        for at in range(starts[i], starts[i] + counts[i]):
            code = np.int64(pool[at])
            slot = (code * 0x9E3779B1) & mask
            while slots[slot, 0] >= 0 and slots[slot, 0] != code:
                slot = (slot + 1) & mask
            if slots[slot, 0] < 0:
                slots[slot, 0], slots[slot, 1] = code, found
                found += 1
            numbers[size] = slots[slot, 1]
            size += 1
    offsets[starts.shape[0]] = size
    return found


@njit(cache=True, nogil=True)
def unit_rows(factors: np.ndarray, norms: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Writes factors[rows] at length one to out (k, d) float32, zeros where the row is -1 or has no length.

    factors (n, d), norms (n,) float32; rows (k,) int32. Side by side, so that likenesses read memory in order.
    """
    for i in range(rows.shape[0]):
        row = rows[i]
        norm = norms[row] if row >= 0 else np.float32(0)
        scale = np.float32(1) / norm if norm > 0 else np.float32(0)
        for d in range(out.shape[1]):
            out[i, d] = factors[row, d] * scale if scale > 0 else np.float32(0)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _inner(a: np.ndarray, b: np.ndarray) -> float:
    total = np.float32(0)
    for d in range(a.shape[0]):
        total += a[d] * b[d]
    return float(total)


@njit(cache=True, nogil=True)
def _shared(own: np.uint64, other: np.uint64) -> float:
    """Shared categories, Jaccard."""
    both, either = own & other, own | other
    shared = united = 0
    while either:
        united += int(either & np.uint64(1))
        shared += int(both & np.uint64(1))
        either >>= np.uint64(1)
        both >>= np.uint64(1)
    return shared / united if united else 0.0


@njit(cache=True, nogil=True)
def _approach(
    pick: int, units: np.ndarray, has_unit: np.ndarray, categories: np.ndarray, nearest: np.ndarray
) -> None:
    """Brings nearest (k,) up to date with one more pick."""
    for i in range(nearest.shape[0]):
        if has_unit[i] and has_unit[pick]:
            alike = max(_inner(units[pick], units[i]), 0.0)
        else:
            alike = _shared(categories[pick], categories[i])
        nearest[i] = max(nearest[i], alike)


@njit(cache=True, nogil=True)
def _fits(i: int, offsets: np.ndarray, numbers: np.ndarray, taken: np.ndarray, most: int) -> bool:
    """Whether none of the candidate's categories is full; most 0: there is no limit."""
    if most > 0:
        for at in range(offsets[i], offsets[i + 1]):
            if taken[numbers[at]] >= most:
                return False
    return True


@njit(cache=True, nogil=True)
def _best_of(
    wanted: int,
    alive: np.ndarray,
    alive_count: int,
    worth: np.ndarray,
    nearest: np.ndarray,
    diversity: float,
    kinds: np.ndarray,
    free: np.ndarray,
    offsets: np.ndarray,
    numbers: np.ndarray,
    taken: np.ndarray,
    most: int,
) -> tuple[int, int, int]:
    """The best of alive[:alive_count] of the kind wanted (-1: of any), -1 if there is none; how many there are; the new alive_count.

    Who is no longer free, or whose category is full, for good, leaves alive (k,) int64; the others keep their order.
    """
    best, best_value, count, kept = -1, -np.inf, 0, 0
    for at in range(alive_count):
        i = alive[at]
        if not free[i] or not _fits(i, offsets, numbers, taken, most):
            continue
        alive[kept] = i
        kept += 1
        if wanted >= 0 and kinds[i] != wanted:
            continue
        count += 1
        value = worth[i] - diversity * nearest[i]
        if value > best_value or best < 0:
            best, best_value = i, value
    return best, count, kept


@njit(cache=True, nogil=True)
def _at_turn(number: int, wanted: int, alive: np.ndarray, kinds: np.ndarray) -> int:
    """The candidate of this number, from 0 on, among those of the kind wanted."""
    at = 0
    while True:
        if wanted < 0 or kinds[alive[at]] == wanted:
            if number == 0:
                return int(alive[at])
            number -= 1
        at += 1


@njit(cache=True, nogil=True)
def turn_of(shares: np.ndarray, given: np.ndarray, step: int) -> int:
    """Whose turn the `step` (from 1 on) is, so that each has had its share of all steps so far within one.

    shares (n,) float64 add up to 1; given (n,) int64 turns before. Of those that are due, the one whose time ends first
    (Tijdeman 1980, "The chairman assignment problem"); n > 1.
    """
    slack = 1.0 / (2 * shares.shape[0] - 2)
    best, best_end = -1, np.inf
    for i in range(shares.shape[0]):
        due = shares[i] * step - given[i]
        if shares[i] > 0 and due >= slack - 1e-12:
            end = (1.0 - slack - due) / shares[i]
            if end < best_end - 1e-12:
                best, best_end = i, end
    return best


@njit(cache=True, nogil=True)
def _next_pin(pins: np.ndarray, at: int, count: int, free: np.ndarray, allowed: np.ndarray) -> int:
    """The next pinned candidate, taken out of pins; -1 if there is none. One of a later page only if nothing else is left."""
    left = False
    for i in range(free.shape[0]):
        left = left or (free[i] and allowed[i])
    for j in range(at + 1, count if left else pins.shape[0]):
        if pins[j] >= 0:
            pick = int(pins[j])
            pins[j] = -1
            return pick
    return -1


@njit(cache=True, nogil=True)
def _begin(
    scores: np.ndarray,
    allowed: np.ndarray,
    pins: np.ndarray,
    diversity: float,
    free: np.ndarray,
    nearest: np.ndarray,
    worth: np.ndarray,
    alive: np.ndarray,
) -> int:
    """Everything is free but what is pinned, which stands at its own place and nowhere before. Returns how many are in alive."""
    low, high = np.inf, -np.inf
    for i in range(scores.shape[0]):
        nearest[i] = 0.0
        free[i] = True
        if allowed[i]:
            low, high = min(low, float(scores[i])), max(high, float(scores[i]))
    for at in range(pins.shape[0]):
        if pins[at] >= 0:
            free[pins[at]] = False
    span, count = max(high - low, 1e-9), 0
    for i in range(scores.shape[0]):
        # Scores count by their place between the lowest and the highest, so that they weigh like likenesses do.
        worth[i] = (1.0 - diversity) * (scores[i] - low) / span if diversity > 0 else float(scores[i])
        if free[i] and allowed[i]:
            alive[count] = i
            count += 1
    return count


@njit(cache=True, nogil=True)
def select_places(
    scores: np.ndarray,
    allowed: np.ndarray,
    pins: np.ndarray,
    kinds: np.ndarray,
    shares: np.ndarray,
    given: np.ndarray,
    passed: int,
    diversity: float,
    units: np.ndarray,
    has_unit: np.ndarray,
    categories: np.ndarray,
    most: int,
    offsets: np.ndarray,
    numbers: np.ndarray,
    taken: np.ndarray,
    exploration: float,
    seed: np.uint64,
    free: np.ndarray,
    nearest: np.ndarray,
    worth: np.ndarray,
    alive: np.ndarray,
    chosen: np.ndarray,
    ways: np.ndarray,
    propensities: np.ndarray,
) -> int:
    """Fills a page place by place; returns how many places were filled.

    scores (k,) float32 after boosts; allowed (k,) bool: may stand where no pin put it; pins (>= c,) int64 the candidate that is
    told to stand there, -1 for none, each at most once: what stands beyond c has its place on a later page. Where nothing else
    is left, pins move up. kinds (k,) int8: 0 for none's, else one more than the promotion's number; shares (p + 1,) float64 of
    the places that no pin takes, the rest first; given (p + 1,) int64, zeros before; passed: such places on earlier pages.
    diversity 0..1 with units (k, d) float32, has_unit (k,) bool and categories (k,) uint64 as `unit_rows` and the catalogue
    have them. most: of any one category, with offsets, numbers (see `number_runs`) and taken (distinct,) int32, zeros before.
    exploration: the share of places that are drawn, evenly among all that may stand there, by the sequence of seed.
    free (k,) bool, nearest and worth (k,) float64 and alive (k,) int64 are overwritten; chosen (c,) int64, ways (c,) uint8 and
    propensities (c,) float64 receive the page; free says afterwards what is left.
    """
    alive_count = _begin(scores, allowed, pins, diversity, free, nearest, worth, alive)
    for before in range(1, passed + 1):
        given[turn_of(shares, given, before)] += 1
    promoting = shares.shape[0] > 1
    size, step = 0, passed
    for at in range(chosen.shape[0]):
        pick, way, propensity = pins[at], PINNED, 1.0 if exploration > 0 else 0.0
        pins[at] = -1
        if pick < 0:
            step, wanted = step + 1, -1
            if promoting:
                wanted = turn_of(shares, given, step)
                given[wanted] += 1
            pick, count, alive_count = _best_of(
                wanted, alive, alive_count, worth, nearest, diversity, kinds, free, offsets, numbers, taken, most
            )  # fmt: skip
            if pick < 0 and wanted >= 0:  # whose turn it is has nothing: the place goes to any other
                wanted = -1
                pick, count, alive_count = _best_of(
                    wanted, alive, alive_count, worth, nearest, diversity, kinds, free, offsets, numbers, taken, most
                )  # fmt: skip
            if pick >= 0:
                way = PROMOTED if promoting and kinds[pick] > 0 else ORGANIC
                if exploration > 0:
                    best = pick
                    if uniform(seed, 2 * at) < exploration:
                        number = min(int(uniform(seed, 2 * at + 1) * count), count - 1)
                        pick, way = _at_turn(number, wanted, alive, kinds), DRAWN
                    propensity = exploration / count + (1.0 - exploration if pick == best else 0.0)
            else:
                pick = _next_pin(pins, at, chosen.shape[0], free, allowed)
                if pick < 0:
                    break
        chosen[size], ways[size], propensities[size] = pick, way, propensity
        size += 1
        free[pick] = False
        if most > 0:
            for number in range(offsets[pick], offsets[pick + 1]):
                taken[numbers[number]] += 1
        if diversity > 0:
            _approach(pick, units, has_unit, categories, nearest)
    return size


@njit(cache=True, nogil=True)
def fade_served(
    keys: np.ndarray,
    ring_keys: np.ndarray,
    ring_times: np.ndarray,
    now_s: float,
    time_s: float,
    slots: np.ndarray,
    out: np.ndarray,
) -> None:
    """Writes to out (k,) float32 the sum over the ring's showings of each key of exp(-age / time_s).

    keys (k,) int32 distinct; ring_keys (r,) int32, ring_times (r,) uint32; slots (2**b,) int32, at least 2 k, is overwritten.
    """
    slots[:] = -1
    mask = slots.shape[0] - 1
    for i in range(keys.shape[0]):
        out[i] = np.float32(0)
        slot = (np.int64(keys[i]) * 0x9E3779B1) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = i
    for j in range(ring_keys.shape[0]):
        slot = (np.int64(ring_keys[j]) * 0x9E3779B1) & mask
        while slots[slot] >= 0 and keys[slots[slot]] != ring_keys[j]:
            slot = (slot + 1) & mask
        if slots[slot] >= 0:
            age_s = max(now_s - float(ring_times[j]), 0.0)
            out[slots[slot]] += np.float32(np.exp(-age_s / time_s))


@njit(cache=True, nogil=True)
def first_allowed(keys: np.ndarray, eligible: np.ndarray, blocked: np.ndarray, out: np.ndarray) -> int:
    """Writes the first of keys (m,) int32 that are eligible (size,) bool and not in the hash table blocked to out (c,) int32.

    Returns how many.
    """
    size = 0
    for i in range(keys.shape[0]):
        if size == out.shape[0]:
            break
        key = keys[i]
        if 0 <= key < eligible.shape[0] and eligible[key] and blocked[slot_of(key, blocked)] == 0:
            out[size] = key
            size += 1
    return size
