"""The open loop again, for rates far beyond what the server can do: bare frames from one thread, refusals told from answers.

Latency counts from the time a call was due. A share of the calls may be marked as sheddable; both kinds are counted by themselves.
"""

from __future__ import annotations

import gc
import selectors
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.load.answer import OK
from bench.load.histogram import Histogram
from bench.load.http2 import Connection, header_block, message
from bench.load.schedule import Schedule
from bench.load.target import Target

HEAD_START_S = 0.05
DRAIN_S = 2.0  # after the last call was due, for its answer
POLL_S_MAX = 0.001
PRIORITIES = ("normal", "sheddable")
SHEDDABLE = (("reco-priority", "sheddable"),)
REFUSED = "RESOURCE_EXHAUSTED"


@dataclass
class Tally:
    """What became of the calls of one priority, and how long after they were due."""

    statuses: Counter[str] = field(default_factory=Counter)
    accepted: Histogram = field(default_factory=Histogram)
    refused: Histogram = field(default_factory=Histogram)

    def ended(self, status: str, after_s: float) -> None:
        self.statuses[status] += 1
        if status == OK:
            self.accepted.record(after_s)
        elif status == REFUSED:
            self.refused.record(after_s)

    def to_json(self, seconds: float) -> dict[str, Any]:
        return {
            "calls": self.statuses.total(),
            "statuses": dict(self.statuses),
            "accepted_per_s": self.statuses[OK] / seconds,
            "refused_per_s": self.statuses[REFUSED] / seconds,
            "accepted_ms": self.accepted.percentiles(),
            "refused_ms": self.refused.percentiles(),
        }


def run(
    target: Target, schedule: Schedule, requests: Sequence[bytes], connections: int, sheddable_share: float, seed: int
) -> dict[str, Any]:  # fmt: skip
    """One run. Raises ValueError, and OSError where nobody listens."""
    if not 0 <= sheddable_share <= 1:
        raise ValueError(f"the sheddable share is {sheddable_share}, it has to be 0 to 1")
    flood = _Flood(target, schedule, requests, connections, sheddable_share, seed)
    gc.collect()
    gc.disable()
    try:
        flood.go()
    finally:
        gc.enable()
        flood.close()
    return flood.result(schedule.seconds)


class _Flood:
    def __init__(
        self, target: Target, schedule: Schedule, requests: Sequence[bytes], connections: int, sheddable_share: float, seed: int
    ) -> None:  # fmt: skip
        self._blocks = header_block(target.path), header_block(target.path, SHEDDABLE)
        self._messages = [message(body) for body in requests]
        self._times_s: list[float] = schedule.times_s.tolist()
        self._users: list[int] = schedule.users.tolist()
        rng = np.random.default_rng(seed)
        self._priorities = (rng.random(len(self._users)) < sheddable_share).astype(int).tolist()
        self._warm_up_s = schedule.warm_up_s
        self._tallies = Tally(), Tally()
        self._late = Histogram()
        self._calls: list[dict[int, int]] = [{} for _ in range(connections)]  # number of a call by its stream
        self._connections = [
            Connection(target.host, target.port, self._on_end(index)) for index in range(connections)
        ]
        self._selector = selectors.DefaultSelector()
        for connection in self._connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._next = 0
        self._start_s = self._cpu_share = 0.0

    def go(self) -> None:
        """Sends everything, each call at its time."""
        self._start_s, cpu_s = time.perf_counter() + HEAD_START_S, time.process_time()
        end_s = self._start_s + (self._times_s[-1] if self._times_s else 0.0) + DRAIN_S
        while time.perf_counter() < end_s and (self._next < len(self._times_s) or any(self._calls)):
            self._send_due()
            for key, _ in self._selector.select(self._wait_s()):
                key.data.read()
        self._cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - self._start_s)

    def close(self) -> None:
        """Calls without an answer are counted as lost."""
        for connection in self._connections:
            connection.close()
        self._selector.close()

    def result(self, seconds: float) -> dict[str, Any]:
        found = dict(zip(PRIORITIES, (tally.to_json(seconds) for tally in self._tallies), strict=True))
        return found | {"late_ms": self._late.percentiles(), "cpu_share": self._cpu_share}

    def _wait_s(self) -> float:
        if self._next >= len(self._times_s):
            return POLL_S_MAX
        return min(POLL_S_MAX, max(0.0, self._start_s + self._times_s[self._next] - time.perf_counter()))

    def _send_due(self) -> None:
        now_s = time.perf_counter() - self._start_s
        while self._next < len(self._times_s) and self._times_s[self._next] <= now_s:
            number = self._next
            turn = number % len(self._connections)
            block = self._blocks[self._priorities[number]]
            body = self._messages[self._users[number] % len(self._messages)]
            self._calls[turn][self._connections[turn].send(block, body)] = number
            if self._times_s[number] >= self._warm_up_s:
                self._late.record(now_s - self._times_s[number])
            self._next += 1
        for connection in self._connections:
            connection.flush()

    def _on_end(self, index: int) -> Any:
        def ended(stream: int, status: str) -> None:
            number = self._calls[index].pop(stream)
            due_s = self._times_s[number]
            if due_s >= self._warm_up_s:
                after_s = time.perf_counter() - self._start_s - due_s
                self._tallies[self._priorities[number]].ended(status, after_s)

        return ended
