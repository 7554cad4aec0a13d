"""Which items expire when: a heap of times, so that looking costs nothing and an expiring item costs microseconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from serving import limits
from serving.rooms import grown

NEVER_S = np.inf
Keys = NDArray[np.int32]
Times = NDArray[np.float64]


class Expiries:
    """Times and keys, the earliest first. An item whose time has changed is in it twice: who takes one out looks what holds."""

    def __init__(self) -> None:
        self.size = 0
        self._left_out_s = NEVER_S  # the earliest time that is not in the heap
        self._times: Times = np.zeros(0)
        self._keys: Keys = np.zeros(0, dtype=np.int32)

    @property
    def next_s(self) -> float:
        """When to look again: nothing expires before."""
        return min(self._left_out_s, float(self._times[0]) if self.size else NEVER_S)

    @property
    def size_bytes(self) -> int:
        return self._times.nbytes + self._keys.nbytes

    def add(self, keys: Keys, times: Times) -> None:
        """Adds keys (m,) with times (m,) float64, all finite."""
        self._times = grown(self._times, self.size + len(keys), 0)
        self._keys = grown(self._keys, self.size + len(keys), 0)
        self.size = push(self._times, self._keys, self.size, times, keys)

    def due(self, now_s: float) -> Keys | None:
        """(m,) int32 keys whose time has come, taken out; None where they are too many to be taken one by one."""
        if now_s >= self._left_out_s:
            return None
        out = np.empty(limits.EXPIRED_COUNT_MAX, dtype=np.int32)
        self.size, count = pop(self._times, self._keys, self.size, now_s, out)
        return None if count == len(out) else out[:count]

    @property
    def is_whole(self) -> bool:
        """Whether every time is in the heap; where not, `started_over` puts them in again."""
        return self._left_out_s == NEVER_S

    def leave_out(self, next_s: float) -> None:
        """Forgets all times, the earliest of which is `next_s`: from then on `due` gives None, until it is started over."""
        self.size, self._left_out_s = 0, next_s

    def has_room(self, count: int) -> bool:
        """Whether `count` more can be added without anything growing."""
        return self.size + count <= len(self._times)

    def start_over(self, expires: Times, now_s: float) -> None:
        """Of the times by key (size,) float64 those that are to come, and nothing else. O(items)."""
        self.started_over(expires, now_s)()

    def started_over(self, expires: Times, now_s: float, spare: int = 0) -> Callable[[], None]:
        """As `start_over`, for another thread and with room for `spare` more; what it returns puts that in place.

        Times that are taken out in between are in it again, which does no harm.
        """
        found = np.flatnonzero((expires > now_s) & (expires < NEVER_S))
        order = np.argsort(expires[found])  # what is sorted is a heap
        size = len(found)
        keys, times = np.zeros(size + spare, dtype=np.int32), np.zeros(size + spare)
        keys[:size] = found[order]
        times[:size] = expires[keys[:size]]

        def adopt() -> None:
            self._keys, self._times, self.size, self._left_out_s = keys, times, size, NEVER_S

        return adopt


@njit(cache=True, nogil=True)
def earliest_after(times: Times, now_s: float) -> float:
    """The least of times (n,) float64 that is greater than now_s; NEVER_S where there is none."""
    least = np.inf
    for i in range(times.shape[0]):
        if now_s < times[i] < least:
            least = times[i]
    return least


@njit(cache=True, nogil=True)
def push(times: Times, keys: Keys, size: int, new_times: Times, new_keys: Keys) -> int:
    """Puts (m,) times and keys into the heap of `size`, which has room for them; returns its new size."""
    for i in range(new_keys.shape[0]):
        at = size
        while at > 0 and times[(at - 1) // 2] > new_times[i]:
            times[at], keys[at] = times[(at - 1) // 2], keys[(at - 1) // 2]
            at = (at - 1) // 2
        times[at], keys[at] = new_times[i], new_keys[i]
        size += 1
    return size


@njit(cache=True, nogil=True)
def pop(times: Times, keys: Keys, size: int, now_s: float, out: Keys) -> tuple[int, int]:
    """Takes out what has a time of now_s or before, at most as many as `out` (m,) int32 has room for.

    Returns the heap's new size, and how many keys were written to `out`.
    """
    count = 0
    while size > 0 and times[0] <= now_s and count < out.shape[0]:
        out[count] = keys[0]
        count += 1
        size -= 1
        time_s, key, at = times[size], keys[size], 0
        while 2 * at + 1 < size:
            child = 2 * at + 1
            if child + 1 < size and times[child + 1] < times[child]:
                child += 1
            if times[child] >= time_s:
                break
            times[at], keys[at] = times[child], keys[child]
            at = child
        times[at], keys[at] = time_s, key
    return size, count
