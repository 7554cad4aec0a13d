"""Serving's loops: plain arrays in, plain arrays out, nothing allocated, without the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.key_set import slot_of


@njit(cache=True, nogil=True)
def mark_lists(
    starts: np.ndarray, counts: np.ndarray, pool: np.ndarray, code: np.int32, out: np.ndarray
) -> None:
    """Sets out[i] where pool[starts[i] : starts[i] + counts[i]] holds `code`.

    starts (n,) int64, counts (n,) int32, pool (p,) int32; out (>= n,) bool, false before. A run may end beyond the pool: it
    is one that came while a thread was at it, and is looked at again.
    """
    for i in range(starts.shape[0]):
        start = np.int64(starts[i])
        for at in range(start, min(start + np.int64(counts[i]), np.int64(pool.shape[0]))):
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
def unite(
    found_rows: np.ndarray,
    found_bits: np.ndarray,
    item_keys: np.ndarray,
    row_by_key: np.ndarray,
    lists: tuple[np.ndarray, ...],
    list_bits: tuple[int, ...],
    list_rooms: tuple[int, ...],
    fills: tuple[np.ndarray, ...],
    fill_bits: tuple[int, ...],
    count_min: int,
    eligible: np.ndarray,
    blocked: np.ndarray,
    slots: np.ndarray,
    places: np.ndarray,
    keys: np.ndarray,
    rows: np.ndarray,
    bits: np.ndarray,
) -> int:
    """The union of the sources, each key once, in the order in which they name it; returns how many, c.

    found_rows (f,) int32 and found_bits (f,) uint8 are the vectorizer's: distinct and allowed, and stand first. Then from
    each of `lists` (l,) int32 keys at most so many as its room, then from `fills` until there are `count_min`. A key goes
    in when it is eligible (size,) bool and not in the hash table blocked; one that is there already gets the list's bit as
    well. item_keys (n,) and row_by_key (r,) int32 translate; slots (2**p,) int32 and places (2**p,) int32 are
    overwritten; keys, rows (>= c,) int32 and bits (>= c,) uint8 receive the union, rows -1 where the model has none.
    """
    slots[:] = 0
    size = 0
    for i in range(found_rows.shape[0]):
        key = item_keys[found_rows[i]]
        at = slot_of(key, slots)
        slots[at], places[at] = key + 1, size
        keys[size], rows[size], bits[size] = key, found_rows[i], found_bits[i]
        size += 1
    for which in range(len(lists) + len(fills)):
        filling = which >= len(lists)
        listed = fills[which - len(lists)] if filling else lists[which]
        bit = fill_bits[which - len(lists)] if filling else list_bits[which]
        room = count_min - size if filling else list_rooms[which]
        for i in range(listed.shape[0]):
            if room <= 0 and filling:
                break
            key = listed[i]
            if (
                key < 0
                or key >= eligible.shape[0]
                or not eligible[key]
                or blocked[slot_of(key, blocked)] != 0
            ):
                continue
            at = slot_of(key, slots)
            if slots[at] != 0:
                bits[places[at]] |= np.uint8(0 if filling else bit)
                continue
            if room <= 0 or size == keys.shape[0]:
                continue
            slots[at], places[at] = key + 1, size
            keys[size], bits[size] = key, np.uint8(bit)
            rows[size] = row_by_key[key] if key < row_by_key.shape[0] else -1
            size += 1
            room -= 1
    return size


@njit(cache=True, nogil=True)
def hide_rows(item_keys: np.ndarray, mask: np.ndarray, hidden: np.ndarray, unmodelled: np.ndarray) -> int:
    """Splits what passes by whether the model knows it; returns how many rows pass.

    item_keys (n,) int32; mask (size,) bool over keys. hidden (n,) uint8 becomes 1 for rows whose key does not pass, 0
    for others; unmodelled (size,) bool, a copy of mask before, loses the keys that have a row.
    """
    passing = 0
    for row in range(item_keys.shape[0]):
        key = item_keys[row]
        if key < mask.shape[0] and mask[key]:
            hidden[row] = 0
            passing += 1
            unmodelled[key] = False
        else:
            hidden[row] = 1
    return passing


@njit(cache=True, nogil=True, inline="always")
def _bit_count(bits: np.uint64) -> np.uint64:
    """Bits that are set, by sums of ever wider fields (Warren, Hacker's Delight, 5-1): the compiler knows it as one instruction."""
    bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.uint64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def share_categories(bits: np.ndarray, own: np.uint64, mask: np.ndarray, shares: np.ndarray) -> None:
    """Writes to shares (size,) float32 what part of its and our categories each key has in common (Jaccard), 0 where mask is false.

    bits (size,) uint64 are the keys' categories, `own` are ours; mask (size,) bool.
    """
    for key in range(mask.shape[0]):
        either = _bit_count(bits[key] | own)
        shares[key] = np.float32(0)
        if mask[key] and either > 0:
            shares[key] = np.float32(_bit_count(bits[key] & own)) / np.float32(either)


@njit(cache=True, nogil=True)
def select_top(scores: np.ndarray, score_min: float, chosen: np.ndarray) -> int:
    """Writes the places of the best scores (k,) float32 that are at least score_min to chosen (m,) int64, best first.

    Equal scores stand in their order; returns how many. Insertion into the page: pages are short and most scores lose
    at the first comparison.
    """
    size = 0
    for i in range(scores.shape[0]):
        score = scores[i]
        if not score >= score_min or (
            size == chosen.shape[0] and (size == 0 or score <= scores[chosen[size - 1]])
        ):
            continue
        at = size if size < chosen.shape[0] else size - 1
        while at > 0 and scores[chosen[at - 1]] < score:
            chosen[at] = chosen[at - 1]
            at -= 1
        chosen[at] = i
        size = min(size + 1, chosen.shape[0])
    return size


@njit(cache=True, nogil=True)
def _write_varint(value: int, out: np.ndarray, at: int) -> int:
    while value >= 128:
        out[at] = (value & 0x7F) | 0x80
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


@njit(cache=True, nogil=True)
def _write_double(tag: int, bits: np.uint64, out: np.ndarray, at: int) -> int:
    """Writes a double by its bits, unless it is zero."""
    if bits == 0:
        return at
    out[at] = tag
    for byte in range(8):
        out[at + 1 + byte] = (bits >> np.uint64(8 * byte)) & np.uint64(0xFF)
    return at + 9


@njit(cache=True, nogil=True)
def write_items(
    joined: np.ndarray,
    scores: np.ndarray,
    sources: np.ndarray,
    propensities: np.ndarray,
    tags: np.ndarray,
    out: np.ndarray,
) -> int:
    """Writes an answer's items as protobuf does; returns the bytes used.

    joined (b,) uint8: c > 0 ids, a NUL between two; scores and propensities (c,) uint64, the bits of doubles; sources (c,)
    uint8 < 128; tags (5,) uint8 of an item, its id, its score, its source, its propensity; out (>= b + 33 c,) uint8. Zeros
    are not written, -0.0 is.
    """
    at = end = 0
    for i in range(scores.shape[0]):
        start = end + 1 if i else 0
        end = start
        while end < joined.shape[0] and joined[end] != 0:
            end += 1
        length = end - start
        body = (
            1
            + 1
            + length
            + (9 if scores[i] else 0)
            + (2 if sources[i] else 0)
            + (9 if propensities[i] else 0)
        )
        rest = length >> 7
        while rest:
            body += 1
            rest >>= 7
        out[at] = tags[0]
        at = _write_varint(body, out, at + 1)
        out[at] = tags[1]
        at = _write_varint(length, out, at + 1)
        out[at : at + length] = joined[start:end]
        at += length
        at = _write_double(tags[2], scores[i], out, at)
        if sources[i]:
            out[at], out[at + 1] = tags[3], sources[i]
            at += 2
        at = _write_double(tags[4], propensities[i], out, at)
    return at


@njit(cache=True, nogil=True)
def pack_keys(keys: np.ndarray, low_bits: int, out: np.ndarray) -> int:
    """Writes ascending distinct keys (m,) int32 as Rice's code of their gaps; returns the bytes used, -1 if out is full.

    A gap (Golomb 1966, Rice 1979) is its part above low_bits in ones, a zero, and the low_bits themselves, the highest first. out
    (b,) uint8 must be zeros.
    """
    at, end, before = 0, 8 * out.shape[0], -1
    for i in range(keys.shape[0]):
        gap = keys[i] - before - 1
        before = keys[i]
        high = gap >> low_bits
        if at + high + 1 + low_bits > end:
            return -1
        for _ in range(high):
            out[at >> 3] |= 128 >> (at & 7)
            at += 1
        at += 1
        for bit in range(low_bits - 1, -1, -1):
            if gap >> bit & 1:
                out[at >> 3] |= 128 >> (at & 7)
            at += 1
    return (at + 7) >> 3


@njit(cache=True, nogil=True)
def unpack_keys(data: np.ndarray, low_bits: int, out: np.ndarray) -> bool:
    """Reads as many keys as out (m,) int32 takes from what `pack_keys` wrote to data (b,) uint8; False if that is damaged."""
    at, end, key = 0, 8 * data.shape[0], np.int64(-1)
    for i in range(out.shape[0]):
        high = np.int64(0)
        while at < end and data[at >> 3] >> (7 - (at & 7)) & 1:
            high += 1
            at += 1
        at += 1
        if at + low_bits > end:
            return False
        low = np.int64(0)
        for _ in range(low_bits):
            low = low << 1 | np.int64(data[at >> 3] >> (7 - (at & 7)) & 1)
            at += 1
        key += (high << low_bits | low) + 1
        if key > 0x7FFFFFFF:
            return False
        out[i] = key
    return True
