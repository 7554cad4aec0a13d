"""What was served to a subject lately: a packed ring beside its profile, written after the answer has gone out.

An entry is an item's key and the unix second, four bytes each, little-endian, oldest first. Rings of all surfaces are one: an
item that was shown on one page of a shop was shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving import select_kernels

SERVED_COUNT_MAX = 512  # entries of one subject: 4 KiB, some 25 pages
ENTRY = np.dtype([("key", "<u4"), ("time_s", "<u4")])
RING_BYTES_MAX = SERVED_COUNT_MAX * ENTRY.itemsize
Keys = NDArray[np.int32]

# KEYS[1] ring. ARGV: entries to put behind it, the bytes it may have at most, TTL in seconds. In one step, whoever else writes.
APPEND = """
local ring = (redis.call('GET', KEYS[1]) or '') .. ARGV[1]
redis.call('SET', KEYS[1], string.sub(ring, -tonumber(ARGV[2])), 'EX', ARGV[3])
"""


@dataclass(frozen=True)
class ServedRing:
    """What was served, oldest first; an item may stand there more than once."""

    keys: Keys  # (r,) int32
    times: NDArray[np.uint32]  # (r,) unix seconds

    def within(self, window_s: int, count: int, now_s: float) -> Keys:
        """(m,) int32: the keys among the last `count` that were served at most `window_s` seconds ago."""
        keys, times = self.keys[-count:], self.times[-count:]
        return keys[times >= max(0, int(now_s) - window_s)]

    def faded(self, keys: Keys, now_s: float, time_s: float) -> NDArray[np.float32]:
        """(k,) float32: for distinct keys (k,) the sum of exp(-age / time_s) over each time that it was served."""
        out = np.empty(len(keys), dtype=np.float32)
        slots = np.empty(1 << (2 * len(keys) + 1).bit_length(), dtype=np.int32)
        select_kernels.fade_served(keys, self.keys, self.times, float(now_s), float(time_s), slots, out)
        return out


NOTHING = ServedRing(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.uint32))


def served_key(subject: str) -> str:
    """The key of a ring. The braces put it into the same slot of a cluster as the profile."""
    return f"reco:served:{{{subject}}}"


def decode(value: bytes | None) -> ServedRing:
    """The ring of stored bytes; an entry that is cut off is passed over, a ring of nothing for None."""
    if not value:
        return NOTHING
    entries = np.frombuffer(value, dtype=ENTRY, count=len(value) // ENTRY.itemsize)
    keys = entries["key"]
    if (keys > np.iinfo(np.int32).max).any():  # nobody's keys: damaged, and worth nothing
        return NOTHING
    return ServedRing(keys.astype(np.int32), entries["time_s"].astype(np.uint32))


def encode(keys: Keys, time_s: float) -> bytes:
    """Entries of keys (m,) served now."""
    entries = np.empty(len(keys), dtype=ENTRY)
    entries["key"], entries["time_s"] = keys, int(time_s)
    return entries.tobytes()
