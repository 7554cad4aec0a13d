"""A profile's bytes. Little-endian:

    header 24 B   version u8, ring_count u8, rice_k u8, flags u8, seen_count u16, seen_bytes u16, applied_offset u64,
                  event_count u32, first_time u32
    ring          ring_count x u64, ascending and distinct: unix seconds u32 << 32 | signal u4 << 28 | item key u28,
                  the key mixed (limits.KEY_MIX)
    seen          seen_bytes of Rice-coded item keys of events that have left the ring (kernels.py)

The ring is "the union, then the 64 largest", and the seen set "the items of all other events, then the largest keys that
fit". Neither depends on the order of merging, and merging twice changes nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reco.errors.v1 import error_reason_pb2

from profiles import kernels, limits
from runtime.errors import RecoError

VERSION = 1
HEADER = struct.Struct("<BBBBHHQII")
OFFSET_BYTES = slice(8, 16)  # of the applied offset; the compare-and-set looks at these alone
U32_MAX = (1 << 32) - 1

assert HEADER.size == limits.HEADER_BYTES


class ProfileDamagedError(RecoError):
    """A stored profile can't be read: not ours, cut short, or of a version to come."""

    def __init__(self, what: str) -> None:
        super().__init__(error_reason_pb2.ERROR_REASON_INTERNAL, f"a stored profile can't be read: {what}")


@dataclass(frozen=True)
class Profile:
    """What is known of a user. Arrays belong to the profile; don't write to them."""

    keys: NDArray[np.int32]  # (n,) items of the recent events, oldest first
    codes: NDArray[np.uint8]  # (n,) profiles.signals.Signal
    times: NDArray[np.uint32]  # (n,) unix seconds
    seen_keys: NDArray[np.int32]  # (m,) ascending; items of older events, those of `keys` left out
    applied_offset: int  # the newest stream entry that is counted in; profiles.offsets
    event_count: int  # all events ever
    first_time: int  # unix seconds of the earliest event; 0 when there is none


@dataclass(frozen=True)
class _Raw:
    ring: NDArray[np.uint64]  # ascending
    seen: NDArray[np.int32]  # descending
    applied_offset: int
    event_count: int
    first_time: int


_NOTHING = _Raw(np.empty(0, np.uint64), np.empty(0, np.int32), 0, 0, 0)


def pack_event(time_s: int, signal: int, item_key: int) -> int:
    """One event as the ring has it. Raises ValueError beyond the bits."""
    if not (0 <= time_s <= U32_MAX and 0 <= signal < 16 and 0 <= item_key <= limits.ITEM_KEY_MAX):
        raise ValueError(f"not an event of the ring: time {time_s}, signal {signal}, item key {item_key}")
    return time_s << 32 | signal << 28 | item_key * limits.KEY_MIX & limits.ITEM_KEY_MAX


def decode(value: bytes | None) -> Profile:
    """The profile of stored bytes; an empty one for None. Raises ProfileDamagedError."""
    raw = _read(value)
    count = raw.ring.shape[0]
    keys, codes, times = np.empty(count, np.int32), np.empty(count, np.uint8), np.empty(count, np.uint32)
    kernels.unpack_ring(raw.ring, keys, codes, times)
    seen_keys = np.empty_like(raw.seen)
    left = kernels.leave_out(raw.seen, np.sort(keys), seen_keys)
    return Profile(keys, codes, times, seen_keys[:left], raw.applied_offset, raw.event_count, raw.first_time)


def merge(value: bytes | None, events: NDArray[np.uint64], applied_offset: int) -> bytes:
    """Stored bytes with packed `events` (n,) merged in, n > 0. `applied_offset` never goes back. Raises ProfileDamagedError."""
    raw = _read(value)
    union = np.unique(np.concatenate((raw.ring, events)))  # sorted
    ring, left = union[-limits.RING_EVENTS_MAX :], union[: -limits.RING_EVENTS_MAX]
    first_time = int(union[0] >> np.uint64(32))
    if raw.event_count:
        first_time = min(first_time, raw.first_time)
    seen = raw.seen
    if left.shape[0]:
        seen = np.unique(np.concatenate((seen, _keys_of(left))))[::-1]
    event_count = min(raw.event_count + events.shape[0], U32_MAX)
    return _write(_Raw(ring, seen, max(raw.applied_offset, applied_offset), event_count, first_time))


def _keys_of(packed: NDArray[np.uint64]) -> NDArray[np.int32]:
    return (packed * np.uint64(limits.KEY_UNMIX) & np.uint64(limits.ITEM_KEY_MAX)).astype(np.int32)


def applied_offset_of(value: bytes | None) -> int:
    """The newest stream entry that stored bytes count in, without decoding them; 0 for None or damaged bytes."""
    if value is None or len(value) < limits.HEADER_BYTES or value[0] != VERSION:
        return 0
    return int.from_bytes(value[OFFSET_BYTES], "little")


def _read(value: bytes | None) -> _Raw:
    if value is None:
        return _NOTHING
    if len(value) < limits.HEADER_BYTES or value[0] != VERSION:
        raise ProfileDamagedError(f"{len(value)} bytes of version {value[0] if value else 'none'}")
    _, ring_count, k, _, seen_count, seen_bytes, applied_offset, event_count, first_time = HEADER.unpack_from(
        value
    )
    seen_start = limits.HEADER_BYTES + ring_count * limits.RING_EVENT_BYTES
    if len(value) != seen_start + seen_bytes:
        raise ProfileDamagedError(f"{len(value)} bytes where its header says {seen_start + seen_bytes}")
    ring = np.frombuffer(value, np.uint64, ring_count, limits.HEADER_BYTES)
    seen = np.empty(seen_count, np.int32)
    if seen_count:
        coded = np.frombuffer(value, np.uint8, seen_bytes, seen_start)
        if kernels.decode_seen(coded, seen_count, k, seen) != seen_count:
            raise ProfileDamagedError("its seen items end early")
    return _Raw(ring, seen, applied_offset, event_count, first_time)


def _write(raw: _Raw) -> bytes:
    plan = np.empty(3, np.int64)
    seen = np.ascontiguousarray(raw.seen)
    kernels.plan_seen(seen, limits.SEEN_BYTES_MAX, plan)
    seen_count, k, seen_bytes = (int(part) for part in plan)
    coded = np.zeros(seen_bytes, np.uint8)
    if seen_count:
        kernels.encode_seen(seen[:seen_count], k, coded)
    header = HEADER.pack(
        VERSION,
        raw.ring.shape[0],
        k,
        0,
        seen_count,
        seen_bytes,
        raw.applied_offset,
        raw.event_count,
        raw.first_time,
    )
    return header + raw.ring.tobytes() + coded.tobytes()
