"""Times the stages of one request: into the metrics, and into the answer's own trace."""

from __future__ import annotations

import time

from runtime.metrics import STAGE_SECONDS

STAGES = ("profile", "eligibility", "vectorize", "gather", "score", "select", "answer")
_OBSERVE = {stage: STAGE_SECONDS.labels(stage).observe for stage in STAGES}  # looked up once: 1 us each


class Stopwatch:
    """Gives each stage the time since the one before it ended."""

    def __init__(self) -> None:
        self.laps: list[tuple[str, float]] = []  # stage and seconds, in order
        self._before_s = time.perf_counter()

    def lap(self, stage: str) -> None:
        """`stage` has ended."""
        now_s = time.perf_counter()
        took_s = now_s - self._before_s
        self._before_s = now_s
        _OBSERVE[stage](took_s)
        self.laps.append((stage, took_s))

    def server_timing(self) -> str:
        """The stages as W3C Server-Timing has them, in milliseconds: "profile;dur=0.081, eligibility;dur=0.007"."""
        return ", ".join([f"{stage};dur={took_s * 1000:.3f}" for stage, took_s in self.laps])
