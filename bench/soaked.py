"""What a soak has shown, and what of it ought not to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from bench.load.answer import OK

PART: Final = 1 / 4  # of the samples after the first swap: the first of them are compared with the last
GROWTH_MAX: Final = 0.05  # of resident memory
SHOWN_EVERY: Final = 60  # samples: one a minute


@dataclass(frozen=True)
class Sample:
    """One look at the serving process."""

    time_s: float  # since the start of the load
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Soaked:
    """What a run has shown."""

    seconds: float
    rate_per_s: float
    runs: list[dict[str, Any]]  # of the load, in order: statuses, latency_ms, machine (who had which core)
    change_count: int  # items that were upserted, and deleted again
    swap_count: int
    pause_count: int
    errors: list[str]  # of those who change things
    samples: list[Sample]
    settled_s: float  # when the first swap was over

    @property
    def statuses(self) -> dict[str, int]:
        """How the load's calls ended, all runs together."""
        return dict(sum((Counter(run["statuses"]) for run in self.runs), Counter[str]()))

    @property
    def failed_count(self) -> int:
        """Calls that got no answer."""
        return sum(count for status, count in self.statuses.items() if status != OK)

    @property
    def growth(self) -> float:
        """Resident memory at the end over that after the first swap, less 1: medians of parts of the samples."""
        first, last = (np.median([each.resident_bytes for each in part]) for part in self._parts())
        return float(last / first) - 1

    @property
    def leaked_descriptors(self) -> int:
        """How many more are open in the last part, at the least, than in the first half after the first swap, at the most."""
        return self._more(lambda sample: sample.descriptors)

    @property
    def leaked_threads(self) -> int:
        """The same of threads."""
        return self._more(lambda sample: sample.threads)

    @property
    def others_share(self) -> float:
        """What processes of others took of all cores, the most of any run: with much of it, calls that failed say little."""
        return max((run["machine"]["others"] for run in self.runs), default=0.0)

    def _more(self, of: Callable[[Sample], int]) -> int:
        # Pools make their few threads one by one, when they need them: what goes on growing in the second half is a leak.
        after, (_, last) = self._after(), self._parts()
        return max(0, min(map(of, last)) - max(map(of, after[: max(1, len(after) // 2)])))

    def _parts(self) -> tuple[Sequence[Sample], Sequence[Sample]]:
        after = self._after()
        count = max(1, round(len(after) * PART))
        return after[:count], after[-count:]

    def _after(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.time_s >= self.settled_s]

    def faults(self) -> list[str]:
        """What ought not to be; empty if all is well."""
        found = list(self.errors)
        if self.failed_count:
            found.append(
                f"{self.failed_count} calls failed: {self.statuses}; others took up to {self.others_share:.0%}"
            )
        if self.growth > GROWTH_MAX:
            found.append(f"resident memory grew by {self.growth:.1%}")
        if self.leaked_descriptors or self.leaked_threads:
            found.append(f"{self.leaked_descriptors} descriptors and {self.leaked_threads} threads stayed")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, the figures first; of the samples one a minute."""
        figures = {
            "statuses": self.statuses, "failed_count": self.failed_count, "growth": self.growth,
            "leaked_descriptors": self.leaked_descriptors, "leaked_threads": self.leaked_threads,
        }  # fmt: skip
        return (
            figures | asdict(self) | {"samples": [asdict(sample) for sample in self.samples[::SHOWN_EVERY]]}
        )
