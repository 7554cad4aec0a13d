"""The loops of the codec. Plain arrays in and out, the caller allocates; tests/oracles/profile_oracle.py is the slow twin.

The seen set is Rice-coded (Rice 1979): largest key first, then the gaps downwards less one, each as a quotient in unary
(ones, then a zero) and `k` bits of rest, bits filled from the least significant. Downwards, because then the cost of a
set never shrinks when a key is added, which makes "the largest keys that fit" independent of the order of merging.
"""

from __future__ import annotations

import numpy as np
from numba import int32, int64, njit, types, uint8, uint32, uint64, void
from numpy.typing import NDArray

from profiles.limits import (
    HEADER_BYTES,
    ITEM_KEY_MAX,
    KEY_UNMIX,
    RICE_K_MAX,
    RING_EVENT_BYTES,
    RING_EVENTS_MAX,
    SEEN_BYTES_MAX,
)

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

DAMAGED = -1

# Arrays over stored bytes are read-only; numba takes writable ones for these too.
_CODED = types.Array(uint8, 1, "C", readonly=True)
_RING = types.Array(uint64, 1, "C", readonly=True)


@njit(void(_RING, int32[::1], uint8[::1], uint32[::1]), cache=True, nogil=True)
def unpack_ring(packed: U64, keys: I32, codes: U8, times: U32) -> None:
    """Splits packed events (n,) into item keys, signal codes and unix seconds, each (n,), in the same order."""
    for i in range(packed.shape[0]):
        event = packed[i]
        keys[i] = np.int32((event * np.uint64(KEY_UNMIX)) & np.uint64(ITEM_KEY_MAX))
        codes[i] = np.uint8((event >> np.uint64(28)) & np.uint64(0xF))
        times[i] = np.uint32(event >> np.uint64(32))


@njit(int64(_CODED, int64, int64, int32[::1]), cache=True, nogil=True)
def decode_seen(coded: U8, count: int, k: int, out: I32) -> int:
    """Writes `count` keys of `coded` to `out`, descending. Returns their count, or DAMAGED when the bits run out or a key is none."""
    if count == 0:
        return 0
    bit_count = coded.shape[0] * 8
    if bit_count < 32 or k > RICE_K_MAX:
        return DAMAGED
    key = np.int64(0)
    for byte in range(4):
        key |= np.int64(coded[byte]) << (8 * byte)
    if key > ITEM_KEY_MAX:
        return DAMAGED
    out[0] = np.int32(key)
    bit = 32
    for i in range(1, count):
        quotient = 0
        while bit < bit_count and (coded[bit >> 3] >> (bit & 7)) & 1:
            quotient += 1
            bit += 1
        bit += 1
        if bit + k > bit_count:
            return DAMAGED
        rest = np.int64(0)
        taken = 0
        while taken < k:
            here = min(8 - (bit & 7), k - taken)
            rest |= ((np.int64(coded[bit >> 3]) >> (bit & 7)) & ((1 << here) - 1)) << taken
            taken += here
            bit += here
        key -= ((quotient << k) | rest) + 1
        if key < 0:
            return DAMAGED
        out[i] = np.int32(key)
    return count


@njit(void(int32[::1], int64, int64[::1]), cache=True, nogil=True)
def plan_seen(keys: I32, bytes_max: int, plan: NDArray[np.int64]) -> None:
    """How `keys` (n,), distinct and descending, fit into `bytes_max`: plan = (count, k, bytes). Most keys, then fewest bits."""
    plan[0], plan[1], plan[2] = 0, 0, 0
    if keys.shape[0] == 0:
        return
    bits_best = 0
    for k in range(RICE_K_MAX):
        bits = 32
        count = 1
        while count < keys.shape[0]:
            cost = (int(keys[count - 1] - keys[count] - 1) >> k) + 1 + k
            if bits + cost > bytes_max * 8:
                break
            bits += cost
            count += 1
        if count > plan[0] or (count == plan[0] and bits < bits_best):
            plan[0], plan[1], plan[2] = count, k, (bits + 7) // 8
            bits_best = bits


@njit(void(int32[::1], int64, uint8[::1]), cache=True, nogil=True)
def encode_seen(keys: I32, k: int, out: U8) -> None:
    """Writes `keys` (n,), n > 0, distinct and descending, to `out`, which has just the bytes of the plan, all zero."""
    for byte in range(4):
        out[byte] = (keys[0] >> (8 * byte)) & 0xFF
    bit = 32
    for i in range(1, keys.shape[0]):
        gap = np.int64(keys[i - 1] - keys[i] - 1)
        for _ in range(gap >> k):
            out[bit >> 3] |= np.uint8(1 << (bit & 7))
            bit += 1
        bit += 1
        for place in range(k):
            if (gap >> place) & 1:
                out[bit >> 3] |= np.uint8(1 << (bit & 7))
            bit += 1


@njit(int64(int32[::1], int32[::1], int32[::1]), cache=True, nogil=True)
def leave_out(seen: I32, ring: I32, out: I32) -> int:
    """Writes `seen` (descending), less what is in `ring` (ascending, may repeat), to `out` ascending. Returns the count."""
    count = 0
    at = 0
    for i in range(seen.shape[0] - 1, -1, -1):
        while at < ring.shape[0] and ring[at] < seen[i]:
            at += 1
        if at == ring.shape[0] or ring[at] != seen[i]:
            out[count] = seen[i]
            count += 1
    return count


@njit(int64(uint64[::1], int64[::1], int64, int64[::1]), cache=True, nogil=True)
def drop_repeated(ids: U64, times: I64, window: int, kept: I64) -> int:
    """Writes to `kept` the places (ascending) of events that are no repetition: of one id (n,), in order, whoever comes less
    than `window` after the last that was kept is one. Returns the count."""
    is_kept = np.ones(ids.shape[0], np.bool_)
    order = np.argsort(ids, kind="mergesort")  # equal ids stay in order
    last = 0
    for i in range(1, order.shape[0]):
        here, before = order[i], order[last]
        if ids[here] == ids[before] and times[here] - times[before] < window:
            is_kept[here] = False
        else:
            last = i
    count = 0
    for i in range(ids.shape[0]):
        if is_kept[i]:
            kept[count] = i
            count += 1
    return count


@njit(int64(uint64[::1], int64, int64, uint8[::1]), cache=True, nogil=True)
def write_profile(events: U64, applied: int, version: int, out: U8) -> int:
    """Writes the profile of packed `events` (n,), n > 0, of which the newest has the offset `applied`; the same bytes as
    codec.merge makes of them, in any order. `out` is zero and long enough. Returns how many bytes."""
    union = np.unique(events)
    ring_start = max(0, union.shape[0] - RING_EVENTS_MAX)
    left = np.empty(ring_start, np.int32)
    for i in range(ring_start):
        left[i] = np.int32((union[i] * np.uint64(KEY_UNMIX)) & np.uint64(ITEM_KEY_MAX))
    seen = np.ascontiguousarray(np.unique(left)[::-1])
    plan = np.empty(3, np.int64)
    plan_seen(seen, SEEN_BYTES_MAX, plan)
    ring_count = union.shape[0] - ring_start
    out[0], out[1], out[2], out[3] = version, ring_count, plan[1], 0
    for byte in range(2):
        out[4 + byte] = (plan[0] >> (8 * byte)) & 0xFF
        out[6 + byte] = (plan[2] >> (8 * byte)) & 0xFF
    first_time = np.int64(union[0] >> np.uint64(32))
    count = min(events.shape[0], 0xFFFFFFFF)
    for byte in range(8):
        out[8 + byte] = (applied >> (8 * byte)) & 0xFF
    for byte in range(4):
        out[16 + byte] = (count >> (8 * byte)) & 0xFF
        out[20 + byte] = (first_time >> (8 * byte)) & 0xFF
    at = HEADER_BYTES
    for i in range(ring_start, union.shape[0]):
        for byte in range(RING_EVENT_BYTES):
            out[at] = np.uint8((union[i] >> np.uint64(8 * byte)) & np.uint64(0xFF))
            at += 1
    if plan[0] > 0:
        encode_seen(seen[: plan[0]], plan[1], out[at : at + plan[2]])
    return at + int(plan[2])


@njit(
    void(
        int64[::1], uint64[::1], int64[::1], uint64[::1], int64[::1], int64, int64, int64,
        types.boolean[::1], uint8[::1], int64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def fold(
    starts: I64, events: U64, offsets: I64, ids: U64, times: I64, window: int, gap: int, version: int,
    is_kept: NDArray[np.bool_], out: U8, ends: I64,
) -> None:  # fmt: skip
    """The profile of each of m subjects, one behind the other into `out`, which is zero; `ends` (m,) says where each ends.

    Subject i has the rows starts[i] to starts[i + 1] of packed `events` (n,), by offset: `offsets`, `ids` (of the event) and
    `times` (of acceptance, in units of `window`) as drop_repeated takes them. What lies before a `gap` of offsets was
    forgotten. `is_kept` (n,) becomes true where an event is counted in.
    """
    at = 0
    for subject in range(starts.shape[0] - 1):
        start, end = starts[subject], starts[subject + 1]
        for row in range(end - 1, start, -1):
            if offsets[row] - offsets[row - 1] > gap:
                start = row
                break
        kept = np.empty(end - start, np.int64)
        count = drop_repeated(ids[start:end], times[start:end], window, kept)
        own = np.empty(count, np.uint64)
        for i in range(count):
            own[i] = events[start + kept[i]]
            is_kept[start + kept[i]] = True
        at += write_profile(own, offsets[start + kept[count - 1]], version, out[at:])
        ends[subject] = at
