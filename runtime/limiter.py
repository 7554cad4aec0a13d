"""How many calls may wait: as many as are begun within a named time, learnt from calls as they come.

A call *waits* from its arrival until its handler begins; a handler that waits for a store is not counted, since a slow store is no
reason to refuse. One waiting call at a time is marked and timed. When the marked ones waited too long on average the limit falls
by a tenth; when they did not, and the limit was met or is below its first value, it grows by one (additive increase,
multiplicative decrease).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NORMAL: Final = "normal"
SHEDDABLE: Final = "sheddable"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what the limit may move, and what moves it."""

    waiting_min: int = 16  # fewer would leave the processor idle between two looks at the sockets
    waiting_max: int = 256  # two tenths of a second at worst, should a call cost a whole millisecond
    waiting_first: int = (
        64  # where it starts, and returns to in calm: what comes in while the process stands still for 80 ms
    )
    wait_s_max: float = 0.01  # a page has that to spare; bursts pass, since the limit is higher in calm
    open_max: int = 1_024  # waiting and running: memory, when a store is slow
    sheddable_share: float = 0.5  # of the limit: what may be shed leaves the other half to the rest
    marks: int = 8  # a decision, five of them a second under load
    decrease: float = 0.9

    def __post_init__(self) -> None:
        assert 1 <= self.waiting_min <= self.waiting_first <= self.waiting_max <= self.open_max
        assert 0 < self.sheddable_share <= 1
        assert 0 < self.decrease < 1 <= self.marks
        assert self.wait_s_max > 0


BOUNDS: Final = Bounds()


class Limiter:
    """Counts calls through `admit`, `begin`, `finish` and `close`, each called once a call, in this order.

    A call that ends before its handler began has neither `begin` nor `finish`. Times are of any one clock that does not go back.
    """

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.bounds = bounds
        self.limit = float(bounds.waiting_first)
        self.open_count = 0
        self.running_count = 0
        self._ahead = -1  # calls that will begin before the marked one; -1: none is marked
        self._marked_s = 0.0
        self._waits = 0
        self._waited_s = 0.0
        self._is_met = False  # whether the limit refused or nearly did, since the last decision

    @property
    def waiting_count(self) -> int:
        """Calls that are admitted and not begun."""
        return self.open_count - self.running_count

    def admit(self, sheddable: bool, now_s: float) -> bool:
        """Whether the call may come in; one that may not is forgotten."""
        waiting = self.open_count - self.running_count
        limit = self.limit
        if sheddable:
            limit = max(1.0, limit * self.bounds.sheddable_share)
        if waiting >= limit or self.open_count >= self.bounds.open_max:
            self._is_met = self._is_met or not sheddable
            return False
        self.enter(now_s)
        return True

    def enter(self, now_s: float) -> None:
        """Takes in a call that can't be refused."""
        if self._ahead < 0:
            self._ahead, self._marked_s = max(0, self.open_count - self.running_count), now_s
        self.open_count += 1

    def begin(self, now_s: float) -> None:
        """A handler begins: that of the call that has waited longest, as far as one can tell."""
        self.running_count += 1
        if self._ahead >= 0:
            self._ahead -= 1
            if self._ahead < 0:
                self._learn(now_s - self._marked_s)

    def finish(self) -> None:
        """A handler ended."""
        self.running_count -= 1

    def close(self) -> None:
        """A call is over, answered or given up by its caller."""
        self.open_count -= 1
        if self.open_count <= self.running_count:
            self._ahead = -1  # the marked one was given up: nobody waits

    def _learn(self, wait_s: float) -> None:
        self._waits += 1
        self._waited_s += wait_s
        bounds = self.bounds
        if (
            self._waited_s > bounds.marks * bounds.wait_s_max
        ):  # as soon as that is certain: slow calls make few marks
            self.limit = max(float(bounds.waiting_min), self.limit * bounds.decrease)
        elif self._waits < bounds.marks:
            return
        elif self._is_met or self.limit < bounds.waiting_first:
            self.limit = min(float(bounds.waiting_max), self.limit + 1.0)
        self._waits, self._waited_s, self._is_met = 0, 0.0, False
