"""Does to the system what the schedule says, and undoes it."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from bench.chaos import disk
from bench.chaos.proxy import Proxy
from bench.chaos.schedule import Fault
from bench.chaos.system import System

ALIVE_WAIT_S_MAX: Final = 3.0  # for a target that is just being started again
MS: Final = 1000.0

Undo = Callable[[], None]


class Inflictor:
    """Walks through a schedule in its own thread's time."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.counts: Counter[str] = Counter()  # faults that happened, by kind
        self.by_target: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()  # targets that were not there to be hurt
        self._undos: list[tuple[float, int, Undo]] = []
        self._order = itertools.count()
        self._holds: Counter[tuple[str, str]] = Counter()  # faults of a kind that last and overlap, by target

    def run(self, faults: Sequence[Fault], seconds: float, stop: threading.Event) -> None:
        """Every fault at its time; returns when `seconds` are over and everything is undone."""
        start_s = time.monotonic()
        for fault in faults:
            self._wait(start_s + fault.at_s, stop)
            self._inflict(fault)
        self._wait(start_s + seconds, stop)
        self.undo_all()

    def undo_all(self) -> None:
        """Nothing is wrong any more."""
        while self._undos:
            heapq.heappop(self._undos)[2]()

    def _wait(self, until_s: float, stop: threading.Event) -> None:
        while (now_s := time.monotonic()) < until_s and not stop.is_set():
            if self._undos and self._undos[0][0] <= now_s:
                heapq.heappop(self._undos)[2]()
                continue
            next_s = min(until_s, self._undos[0][0]) if self._undos else until_s
            stop.wait(max(0.0, next_s - now_s))

    def _inflict(self, fault: Fault) -> None:
        undo = getattr(self, f"_{fault.kind}")(fault)
        if undo is None:
            self.missed[fault.target] += 1
            return
        self.counts[fault.kind] += 1
        self.by_target[f"{fault.kind} {fault.target}"] += 1
        if fault.lasts_s:
            self._holds[fault.kind, fault.target] += 1
            entry = (time.monotonic() + fault.lasts_s, next(self._order), lambda: self._release(fault, undo))
            heapq.heappush(self._undos, entry)

    def _release(self, fault: Fault, undo: Undo) -> None:
        """The last of those that overlap undoes it."""
        self._holds[fault.kind, fault.target] -= 1
        if not self._holds[fault.kind, fault.target]:
            undo()

    def _kill(self, fault: Fault) -> Undo | None:
        return self._signal(fault.target, signal.SIGKILL)

    def _restart(self, fault: Fault) -> Undo | None:
        # SIGINT is PostgreSQL's fast stop; SIGTERM would wait for every client to leave.
        return self._signal(fault.target, signal.SIGINT if fault.target == "postgres" else signal.SIGTERM)

    def _signal(self, target: str, number: signal.Signals) -> Undo | None:
        pid = self._alive(target)
        if pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)  # one that is stopped would keep the signal for later
            os.kill(pid, number)
        return lambda: None

    def _stop(self, fault: Fault) -> Undo | None:
        if self._alive(fault.target) is None:
            return None
        pids = self._system.pids(fault.target)
        _send(pids, signal.SIGSTOP)
        # Also whoever has taken its place meanwhile, and was stopped by a fault that ended before this one.
        return lambda: _send([*pids, *self._system.pids(fault.target)], signal.SIGCONT)

    def _alive(self, target: str) -> int | None:
        deadline_s = time.monotonic() + ALIVE_WAIT_S_MAX
        while (pid := self._system.pid(target)) is None and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return pid

    def _cut(self, fault: Fault) -> Undo:
        proxy = self._proxy(fault)
        self._system.loop.call_soon_threadsafe(proxy.cut)
        return lambda: None

    def _truncate(self, fault: Fault) -> Undo:
        proxy = self._proxy(fault)
        self._system.loop.call_soon_threadsafe(proxy.truncate)
        return lambda: None

    def _delay(self, fault: Fault) -> Undo:
        proxy = self._proxy(fault)
        self._system.loop.call_soon_threadsafe(proxy.delay, fault.amount / MS)
        return lambda: self._later(proxy.delay, 0.0)

    def _stall(self, fault: Fault) -> Undo:
        proxy = self._proxy(fault)
        self._system.loop.call_soon_threadsafe(proxy.stall, True)
        return lambda: self._later(proxy.stall, False)

    def _later(self, what: Callable[..., None], *arguments: object) -> None:
        self._system.loop.call_soon_threadsafe(what, *arguments)

    def _proxy(self, fault: Fault) -> Proxy:
        return self._system.proxies[fault.target]

    def _fill(self, fault: Fault) -> Undo:
        place = self._system.disks[fault.target]
        disk.fill(place)
        return lambda: disk.free(place)

    def _skew(self, fault: Fault) -> Undo:
        self._system.skew(fault.target, fault.amount)
        return lambda: self._system.skew(fault.target, 0.0)


def _send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
