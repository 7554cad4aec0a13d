"""`reco profile`: where the time of an answer goes, live, from the running server's own metrics."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from prometheus_client.parser import text_string_to_metric_families
from reco.errors.v1 import error_reason_pb2
from rich.live import Live
from rich.table import Table

from cli.output import Json, console, print_json
from runtime.errors import StateError
from runtime.settings import Settings, load_settings
from serving.__main__ import metrics_port

STAGE_METRIC, CALL_METRIC = "reco_stage_seconds", "reco_rpc_seconds"
ANSWER_WAIT_S_MAX = 5.0
BAR_WIDTH = 24
QUANTILES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True)
class Counts:
    """A histogram's state: upper bounds in seconds (last: infinity) with the observations at or below each, and the sum."""

    below: dict[float, float]
    sum_s: float

    def since(self, before: Counts | None) -> Counts:
        """What came after `before`; all, where there was nothing or the process has started anew."""
        if before is None or any(self.below.get(le, 0.0) < count for le, count in before.below.items()):
            return self
        below = {le: count - before.below.get(le, 0.0) for le, count in self.below.items()}
        return Counts(below, self.sum_s - before.sum_s)

    def plus(self, other: Counts | None) -> Counts:
        """Both, of several processes."""
        if other is None:
            return self
        below = {le: count + other.below.get(le, 0.0) for le, count in self.below.items()}
        return Counts(below, self.sum_s + other.sum_s)

    @property
    def count(self) -> float:
        return max(self.below.values(), default=0.0)

    def quantile_s(self, share: float) -> float:
        """Interpolated within a bucket, as Prometheus does; in the open last one: its lower bound."""
        wanted, lower, under = share * self.count, 0.0, 0.0
        for bound, count in sorted(self.below.items()):
            if count >= wanted and count > under:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (wanted - under) / (count - under)
            lower, under = bound, count
        return lower


State = dict[tuple[str, str], Counts]  # by metric and the label that tells its rows apart


def profile(
    interval_s: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 2.0,
    count: Annotated[int, typer.Option(min=0, help="Looks to take; 0: until Ctrl-C.")] = 0,
    json: Json = False,
) -> None:
    """Show where the time of an answer goes: each stage's mean, median and 99th percentile, live.

    --json: a line a look, {"interval_s", "rows": [{"kind": "stage"|"call", "name", "per_s", "mean_us", "p50_us", "p99_us", "share"}]}
    """
    urls = metrics_urls(load_settings())
    before, taken = read_all(urls), 0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while not count or taken < count:
            time.sleep(interval_s)
            now = read_all(urls)
            rows = summary(before, now, interval_s)
            if json:
                print_json({"interval_s": interval_s, "rows": rows})
            else:
                live.update(table(rows), refresh=True)
            before, taken = now, taken + 1


def metrics_urls(settings: Settings) -> list[str]:
    """Where the ranking processes tell their metrics."""
    ports = [metrics_port(settings, index) for index in range(settings.ranking_processes)]
    return [f"http://{settings.host}:{port}/metrics" for port in ports]


def read_all(urls: list[str]) -> State:
    """The histograms of all processes together. StateError when one does not answer."""
    together: State = {}
    for url in urls:
        for name, counts in read(url).items():
            together[name] = counts.plus(together.get(name))
    return together


def read(url: str) -> State:
    """The histograms of one process."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_WAIT_S_MAX) as answer:  # noqa: S310 - http, from our settings
            return parse(answer.read().decode())
    except (urllib.error.URLError, TimeoutError) as error:
        message = f"{url} does not answer ({error}); start the system with: reco up"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None


def parse(text: str) -> State:
    """The histograms of stages and calls from Prometheus' text."""
    below: dict[tuple[str, str], dict[float, float]] = {}
    sums: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        if family.name not in (STAGE_METRIC, CALL_METRIC):
            continue
        for sample in family.samples:
            key = (family.name, sample.labels.get("stage") or sample.labels.get("method", ""))
            if sample.name.endswith("_bucket"):
                bounds = below.setdefault(key, {})
                bound = float(sample.labels["le"])
                bounds[bound] = bounds.get(bound, 0.0) + sample.value  # calls: summed over their codes
            elif sample.name.endswith("_sum"):
                sums[key] = sums.get(key, 0.0) + sample.value
    return {key: Counts(bounds, sums.get(key, 0.0)) for key, bounds in below.items()}


def summary(before: State, now: State, interval_s: float) -> list[dict[str, Any]]:
    """A row for each stage and call that happened, in microseconds; `share` is of all stages' time."""
    rows = []
    for (metric, name), counts in now.items():
        new = counts.since(before.get((metric, name)))
        if not new.count:
            continue
        row: dict[str, Any] = {"kind": "stage" if metric == STAGE_METRIC else "call", "name": name}
        row |= {"per_s": new.count / interval_s, "mean_us": new.sum_s / new.count * 1e6}
        row |= {f"{label}_us": new.quantile_s(share) * 1e6 for label, share in QUANTILES.items()}
        rows.append(row | {"total_s": new.sum_s})
    stages_s = sum(row["total_s"] for row in rows if row["kind"] == "stage")
    for row in rows:
        total_s = row.pop("total_s")
        row["share"] = total_s / stages_s if row["kind"] == "stage" and stages_s else None
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows for people."""
    shown = Table(box=None, pad_edge=False, header_style="bold green")
    for name in ("stage", "a second", "mean, us", "p50", "p99", "share"):
        shown.add_column(name, justify="left" if name in ("stage", "share") else "right")
    if not rows:
        shown.add_row("no calls in this interval")
    for row in sorted(rows, key=lambda row: row["kind"] == "call"):
        share = row["share"]
        bar = "" if share is None else f"[green]{'█' * round(share * BAR_WIDTH)}[/green] {share:.0%}"
        figures = [f"{row[key]:,.0f}" for key in ("per_s", "mean_us", "p50_us", "p99_us")]
        shown.add_row(row["name"] if row["kind"] == "stage" else f"[bold]{row['name']}[/bold]", *figures, bar)
    return shown
