"""LoadResult: what a run says, as one JSON object. SCHEMA is its contract; times are milliseconds unless a name says otherwise."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from bench.load import server_timing
from bench.load.answer import OK
from bench.load.histogram import Histogram
from bench.load.limits import CPU_SHARE_WARN, LATE_MS_WARN
from bench.load.recording import UNSENT, Recording

_PERCENTILES = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
_COUNT = {"type": "integer", "minimum": 0}
_NUMBER = {"type": "number", "minimum": 0}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "kind": {"enum": ["open", "closed", "interleaved"]},
        "target": {"type": "string", "description": "URL with the RPC's or route's path"},
        "callers": {**_COUNT, "description": "of a closed loop; 0 for the open one"},
        "offered_per_s": {**_NUMBER, "description": "calls due a second; 0 for a closed loop, which offers what it can"},
        "achieved_per_s": {**_NUMBER, "description": "OK answers over the time from the first counted call's turn to the last answer"},
        "seconds": {**_NUMBER, "description": "that time, warm-up left out"},
        "calls": {**_COUNT, "description": "that were due after the warm-up: the sum of `statuses`"},
        "statuses": {"type": "object", "additionalProperties": _COUNT,
                     "description": "OK, gRPC codes, HTTP_nnn; UNSENT: too many in flight; UNFINISHED: none when the run ended"},
        "in_flight_max": _COUNT,
        "cpu_share": {**_NUMBER, "description": "of a core that the generator used, warm-up included"},
        "late_ms": {**_PERCENTILES, "description": "sent after it was due: the generator's own fault; empty for closed loops"},
        "latency_ms": {**_PERCENTILES, "description": "p50, p90, p99, p99.9, max from when a call was due (closed: sent) to its "
                       "whole answer; OK and timed-out calls; empty when there are none"},
        "histogram": {"type": "string", "description": "of latency, HdrHistogram V2 base64, microseconds"},
        "stages_ms": {"type": "object", "additionalProperties": _PERCENTILES,
                      "description": "by name of the server's Server-Timing; `total` is inside the handler"},
        "server_histogram": {"type": "string", "description": "of `total`, as `histogram`; empty where the server says none"},
        "warnings": {"type": "array", "items": {"type": "string"}, "description": "why the figures may not be the server's"},
    },
    "required": ["kind", "target", "callers", "offered_per_s", "achieved_per_s", "seconds", "calls", "statuses", "in_flight_max",
                 "cpu_share", "late_ms", "latency_ms", "histogram", "stages_ms", "server_histogram", "warnings"],
}  # fmt: skip


@dataclass(frozen=True)
class LoadResult:
    """Fields as in SCHEMA."""

    kind: str
    target: str
    callers: int
    offered_per_s: float
    achieved_per_s: float
    seconds: float
    calls: int
    statuses: dict[str, int]
    in_flight_max: int
    cpu_share: float
    late_ms: dict[str, float]
    latency_ms: dict[str, float]
    histogram: str
    stages_ms: dict[str, dict[str, float]]
    server_histogram: str
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def result_of(
    record: Recording,
    kind: str,
    target: str,
    callers: int = 0,
    offered_per_s: float = 0.0,
    seconds: float = 0.0,
) -> LoadResult:
    """Counts a recording; `seconds` is the least that the run took, were all answered at once."""
    cpu_share = record.cpu_share()
    latency, late = Histogram(record.latency_s), Histogram(record.late_s)
    stages = _stages(record.server_timings)
    took_s = max(record.last_s - record.first_s, seconds)
    ok = record.statuses[OK]
    return LoadResult(
        kind=kind,
        target=target,
        callers=callers,
        offered_per_s=offered_per_s,
        achieved_per_s=ok / took_s if took_s else 0.0,
        seconds=took_s,
        calls=record.statuses.total(),
        statuses={status: count for status, count in sorted(record.statuses.items()) if count},
        in_flight_max=record.in_flight_max,
        cpu_share=cpu_share,
        late_ms=late.percentiles(),
        latency_ms=latency.percentiles(),
        histogram=latency.encoded(),
        stages_ms={name: histogram.percentiles() for name, histogram in stages.items()},
        server_histogram=stages["total"].encoded() if "total" in stages else "",
        warnings=_warnings(record, ok, late.at(99), cpu_share),
    )


def _stages(texts: list[str]) -> dict[str, Histogram]:
    stages: dict[str, Histogram] = defaultdict(Histogram)
    for text in texts:
        for name, ms in server_timing.parse(text).items():
            stages[name].record(ms / 1000)
    return dict(stages)


def _warnings(record: Recording, ok: int, late_ms_p99: float, cpu_share: float) -> list[str]:
    found = []
    if cpu_share > CPU_SHARE_WARN:
        found.append(f"the generator used {cpu_share:.0%} of its core: the figures may be its own")
    if late_ms_p99 > LATE_MS_WARN:
        found.append(
            f"the generator was late by {late_ms_p99:.1f} ms at p99: give it a core of its own, or lower the rate"
        )
    if record.statuses[UNSENT]:
        found.append(
            f"{record.statuses[UNSENT]} calls were never sent, as too many were in flight: latency is worse than it says"
        )
    if failed := record.statuses.total() - ok - record.statuses[UNSENT]:
        found.append(
            f"{failed} calls failed, see statuses; those that failed fast are not in the percentiles"
        )
    return found
