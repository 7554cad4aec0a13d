"""What happened in a run: appended to while it goes on, counted when it is over, so that the loop does little more than call."""

from __future__ import annotations

from array import array
from collections import Counter
from time import perf_counter, process_time

from bench.load.answer import OK, TIMED_OUT, Answer

UNSENT = "UNSENT"  # as many as may be were in flight
UNFINISHED = "UNFINISHED"  # still without an answer when the run had to end
# What has a place in the histogram: answers, and calls that waited in vain, for as long as they did. An error that comes
# fast is counted and has none: it would make a broken server look quick.
TIMED = (OK, TIMED_OUT, UNFINISHED)


class Recording:
    """Times in seconds of perf_counter. Only calls that were due after the warm-up are given to it."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.latency_s = array("d")  # from when a call was due
        self.late_s = array("d")  # from when it was due until it was sent
        self.server_timings: list[str] = []
        self.in_flight = self.in_flight_max = 0
        self.first_s = self.last_s = 0.0
        self._made_s, self._made_cpu_s = perf_counter(), process_time()

    def cpu_share(self) -> float:
        """What the generator has used of a core since the recording was made."""
        return (process_time() - self._made_cpu_s) / max(perf_counter() - self._made_s, 1e-6)

    def enter(self) -> None:
        """A call is about to be sent; warm-up included."""
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def leave(self) -> None:
        """It has ended, however."""
        self.in_flight -= 1

    def sent(self, due_s: float, sent_s: float) -> None:
        self.late_s.append(sent_s - due_s)

    def ended(self, due_s: float, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        self.last_s = max(self.last_s, answer.end_s)
        if answer.status in TIMED:
            self.latency_s.append(answer.end_s - due_s)
        if answer.server_timing:
            self.server_timings.append(answer.server_timing)

    def unsent(self) -> None:
        self.statuses[UNSENT] += 1
