"""What a run has shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bench.chaos.count import SHOWN_MAX


@dataclass
class Report:
    """All figures of a run, and what of it ought not to be."""

    seed: int
    seconds: float
    faults: dict[str, int]  # that happened, by kind
    faults_by_target: dict[str, int]
    missed: dict[str, int]  # that found nobody to hurt
    restarts: int  # of processes, by whoever looks after them
    sent: int  # events
    acknowledged: int
    acknowledged_per_s: float  # over the time of the load, outages included
    retries: int  # events that callers sent again
    duplicates_removed: int  # of them, those that had been taken the first time
    refusals: dict[str, int]  # calls that failed, by how
    rejected: int  # events that were refused for good
    sink_retries: int  # batches that sinks wrote again
    dead_letters: int
    drain_s: float  # from the end of faults until every sink had everything
    late_s_max: float  # the longest that an event waited for its acknowledgement
    lost: int = 0
    doubled: int = 0
    unacknowledged_but_there: int = (
        0  # allowed: the answer was lost, and the run ended before it was asked for again
    )
    profiles: int = 0
    profiles_wrong: int = 0
    held: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)  # old and fresh, by process
    notes: list[str] = field(default_factory=list)  # what ought not to be, with samples

    @property
    def fault_count(self) -> int:
        """All faults that happened."""
        return sum(self.faults.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"fault_count": self.fault_count, **asdict(self)}

    def lines(self) -> list[str]:
        """For people."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        refusals = ", ".join(f"{count} {how}" for how, count in sorted(self.refusals.items())) or "none"
        return [
            f"seed {self.seed}, {self.seconds:.0f} s: {self.fault_count} faults ({kinds}); {self.restarts} restarts",
            f"events: {self.acknowledged:,} acknowledged ({self.acknowledged_per_s:,.0f}/s), {self.retries:,} sent again, "
            f"{self.duplicates_removed:,} duplicates removed, {self.rejected} refused; calls that failed: {refusals}",
            f"sinks: {self.sink_retries} batches again, {self.dead_letters} dead letters, all drained {self.drain_s:.0f} s after the last fault; "
            f"longest wait for an acknowledgement {self.late_s_max:.1f} s",
            f"lost: {self.lost}; doubled: {self.doubled}; profiles that differ from a recount: {self.profiles_wrong} of {self.profiles:,}",
            *(f"FAULT: {note}" for note in self.notes),
        ]


def sample(numbers: list[int]) -> str:
    """A few of many."""
    return ", ".join(map(str, numbers[:SHOWN_MAX])) + (", ..." if len(numbers) > SHOWN_MAX else "")
