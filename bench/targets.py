"""What the project has set out to reach, as one typed list: the order of `metrics` in every result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One figure. `least` must be reached, `aim` is meant; a figure is better the larger it is, or the smaller."""

    name: str
    what: str
    least: float
    aim: float
    larger_is_better: bool

    def reaches(self, value: float, bound: float) -> bool:
        """Whether `value` is at least as good as `bound`."""
        return value >= bound if self.larger_is_better else value <= bound

    def verdict(self, value: float | None) -> str:
        """For people."""
        if value is None:
            return "not measured"
        if self.reaches(value, self.aim):
            return "aim reached"
        return "reached" if self.reaches(value, self.least) else "MISSED"


TARGETS = (
    Target("recall_at_200", "share of the exact top-200 that retrieval finds", 0.97, 0.99, True),
    Target("handler_ms_p50", "ms inside the handler at half of saturation, p50", 0.8, 0.5, False),
    Target("handler_ms_p99", "ms inside the handler at half of saturation, p99", 2.0, 1.0, False),
    Target("call_over_empty", "a whole call's p50 over an empty call's, one caller", 2.8, 2.0, False),
    Target("calls_per_core_s", "calls/s of one process on one core", 800, 1_500, True),
    Target("two_cores_over_one", "throughput of two cores over one", 1.8, 1.95, True),
    Target("usual_stack_p99_over_ours", "p99 of the stack that is usually written, over ours", 5, 10, True),
    Target("rest_over_grpc_ms", "ms that REST adds at p50", 0.5, 0.3, False),
    Target("item_bytes", "resident bytes of an item, all counted", 900, 600, False),
    Target("user_bytes", "bytes of a user with a full ring in Valkey", 1_024, 600, False),
    Target("ready_s", "s from a start to ready and warm, bundle and catalogue on disk", 30, 10, False),
    Target("second_process_share", "memory that a second process adds, over the first's", 0.40, 0.10, False),
    Target(
        "filter_ms_p99_max",
        "ms inside the handler with a filter, p99, the worst of its steps",
        2.0,
        1.2,
        False,
    ),
    Target(
        "filter_recall_min",
        "share of the exact best 100 with a filter, the worst of its steps",
        0.97,
        0.99,
        True,
    ),
    Target(
        "item_visible_s_p99",
        "s from an upsert's answer to every process recommending the item, p99",
        1.0,
        0.1,
        False,
    ),
    Target(
        "item_gone_s_max",
        "s from a deletion's answer to the last answer that has the item, at most",
        0.1,
        0.01,
        False,
    ),
    Target("page_repeat_count", "items that came twice in 50 pages of a changing catalogue", 0, 0, False),
    Target("deadline_late_count", "calls of 50 ms that came too late while Redis stood still", 0, 0, False),
    Target("swap_failed_count", "calls that failed while models were swapped", 0, 0, False),
    Target(
        "swap_p99_ratio", "p99 of whole calls while models are swapped, over p99 in calm", 2.0, 1.3, False
    ),
    Target(
        "rank_100_over_empty",
        "p50 of ranking 100 given items over an empty call's, one caller",
        1.5,
        1.3,
        False,
    ),
    Target(
        "overload_goodput_share", "answers/s at 5 times saturation, over the most there are", 0.9, 0.95, True
    ),
    Target("overload_p99_ratio", "p99 of what is answered then, over p99 at the most", 2.0, 1.5, False),
    Target(
        "ingest_events_s", "events/s that one ingest process takes in batches of 100", 20_000, 30_000, True
    ),
    Target("sink_profile_events_s", "events/s that the profile sink takes alone", 10_000, 20_000, True),
    Target("sink_postgres_events_s", "events/s that the Postgres sink takes alone", 10_000, 20_000, True),
    Target("sink_lake_events_s", "events/s that the lake sink takes alone", 10_000, 20_000, True),
    Target("write_event_ms_p99", "ms of a single event's call at 500 a second, p99", 5.0, 2.5, False),
)


@dataclass(frozen=True)
class Figure:
    """One that nothing is promised of; it explains the others."""

    name: str
    what: str


FIGURES = (
    Figure("retrieval_us", "microseconds of one search as published, p50 of 1,000 queries"),
    Figure("call_ms_p50", "ms of whole calls at half of saturation, p50"),
    Figure("call_ms_p99", "ms of whole calls at half of saturation, p99"),
    Figure("h2load_calls_s", "calls/s of one process on one core as h2load counts them, for one user"),
    Figure("usual_stack_calls_s", "calls/s of the stack that is usually written, on one core"),
    Figure("usual_stack_ms_p99", "ms of its whole calls at half of its saturation, p99"),
    Figure("item_still_shown_count", "answers asked for at a deletion's answer that still had the item"),
    Figure("catalogue_failed_count", "calls that failed while thousands of items came and went under load"),
    Figure("catalogue_short_count", "answers that were short meanwhile"),
    Figure("page_ended_count", "lists that ended before their 50th page"),
    Figure("select_rules_ms_p50", "ms of the stage that selects with every rule on, p50"),
    Figure("select_rules_ms_p99", "the same, p99"),
    Figure(
        "deadline_recover_s_max", "s after Redis stood still until answers know their user again, at most"
    ),
    Figure("swap_s", "seconds from activating a model to answering with it, under load"),
    Figure("swap_peak_memory_share", "resident memory of a swap at its most, over that before it"),
    Figure("overload_refused_ms_p99", "ms until a call is refused at 5 times saturation, p99"),
    Figure("overload_normal_share", "the same goodput of normal calls, half of the calls being sheddable"),
    Figure(
        "ingest_over_xadd", "ingest_events_s over bare pipelined XADDs of the same payloads, in the same run"
    ),
    Figure(
        "others_share", "share of all cores that processes other than the bench's took, the most of any run"
    ),
)
NAMES = tuple(figure.name for figure in (*TARGETS, *FIGURES))  # of a result's metrics, in its order


def table(metrics: Mapping[str, float | None], only: Collection[str] = NAMES) -> str:
    """The figures beside what is to be reached."""
    lines = [f"{'':<28}{'measured':>12}{'at least':>12}{'aim':>12}  "]
    for target in (target for target in TARGETS if target.name in only):
        value = metrics.get(target.name)
        shown = "-" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")
        lines.append(
            f"{target.name:<28}{shown:>12}{target.least:>12,g}{target.aim:>12,g}  {target.verdict(value)}"
        )
    for figure in (figure for figure in FIGURES if figure.name in only):
        value = metrics.get(figure.name)
        lines.append(f"{figure.name:<28}{'-' if value is None else f'{value:,.4g}':>12}")
    return "\n".join(lines)


def missed(metrics: Mapping[str, float | None]) -> list[str]:
    """Names of the figures that were not measured or don't reach what they have to."""
    return [t.name for t in TARGETS if t.verdict(metrics.get(t.name)) in ("MISSED", "not measured")]
