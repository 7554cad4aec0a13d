"""How one filter's rows are searched: all codes at first, which is safe; then by the cheapest plan that finds as much."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval import limits
from retrieval.plan import EXACT, HEAD_CELLS, Plan
from retrieval.retriever import Mask, Retriever
from retrieval.shown import NO_ROWS, Shown

Float32 = NDArray[np.float32]

_ROUNDING = 1e-5  # of a score: sums of another order differ by as much


@dataclass(frozen=True)
class Tuned:
    """What was measured of one filter."""

    shown: Shown | None  # how to search from now on
    recall: float  # mean share of the exact best FILTER_RECALL_COUNT that this finds


def tuned(retriever: Retriever, hidden: Mask, shown: Shown | None, queries: Float32) -> Tuned:
    """Measures the search that `shown` stands for on queries (m, d) float32, m > 0, and cheaper ones where it scans all codes.

    hidden (n,) uint8 is only read. The retriever's scratch memory is this thread's meanwhile. An exact scan a query: 20 ms for
    a million rows.
    """
    lowest = [_lowest(retriever, query, hidden) for query in queries]
    found = _measured(retriever, hidden, shown, queries, lowest)
    if shown is None or (shown.plan is None and (shown.complete or found.holds)):
        return Tuned(shown, float(found.recalls.mean()))
    everything = Shown(NO_ROWS, plan=whole(retriever))
    best = _measured(retriever, hidden, everything, queries, lowest)
    for plan in _cheaper(retriever, hidden):
        way = Shown(NO_ROWS, plan=plan)
        tried = _measured(retriever, hidden, way, queries, lowest)
        if tried.row_count <= limits.FILTER_ROWS_SHARE_MAX * best.row_count and tried.holds:
            return Tuned(way, float(tried.recalls.mean()))
    return Tuned(everything, float(best.recalls.mean()))


@dataclass(frozen=True)
class _Measured:
    recalls: NDArray[np.float64]  # (m,)
    row_count: float  # scanned, on average

    @property
    def holds(self) -> bool:
        # Whom the filter fits least counts as well: the worst of the sample, not only its mean.
        good = self.recalls.mean() >= limits.FILTER_RECALL_TARGET
        return bool(good and self.recalls.min() >= limits.FILTER_RECALL_MIN)


def _lowest(retriever: Retriever, query: Float32, hidden: Mask) -> tuple[float, int]:
    """The score of the last of the exact best, and how many these are."""
    best = retriever.exact(query, limits.FILTER_RECALL_COUNT, hidden)
    return (float(retriever.scores(query, best[-1:])[0]), len(best)) if len(best) else (0.0, 0)


def _measured(
    retriever: Retriever, hidden: Mask, shown: Shown | None, queries: Float32, lowest: list[tuple[float, int]]
) -> _Measured:
    recalls, rows = np.ones(len(queries)), 0
    for i, (query, (least, count)) in enumerate(zip(queries, lowest, strict=True)):
        found = retriever.search(query, limits.COUNT, hidden, shown=shown)
        rows += retriever.row_count
        if count:
            # By score and not by row: of duplicates, one is as good as another.
            good = retriever.scores(query, found) >= least - _ROUNDING * abs(least)
            recalls[i] = min(count, int(np.count_nonzero(good))) / count
    return _Measured(recalls, rows / len(queries))


def whole(retriever: Retriever) -> Plan | None:
    """The plan that scans every row's code; None where there are none."""
    layout = retriever.layout
    if retriever.plan.kind == EXACT or layout is None:
        return None
    rows = len(layout.rows)  # and what fills blocks up
    survivors = max(retriever.plan.survivors, limits.WHOLE_SURVIVOR_COUNT)
    return Plan(HEAD_CELLS, rows, layout.cell_count, survivors, reason="a filter: all codes are scanned")


def _cheaper(retriever: Retriever, hidden: Mask) -> list[Plan]:
    plan, layout = retriever.plan, retriever.layout
    assert layout is not None
    passing = max(1, len(hidden) - int(np.count_nonzero(hidden)))
    wider = len(hidden) / passing
    plans = []
    for times in limits.FILTER_WIDER:
        head = int(plan.head_count * wider * times)
        probes = int(plan.probe_count * wider * times + limits.WIDEN_PROBE_COUNT * (wider - 1))
        # A row that passes may lie nearer to the query than any of the best of all: Cauchy-Schwarz alone stops the scan.
        probes = min(layout.cell_count, probes)
        survivors = max(plan.survivors, limits.WHOLE_SURVIVOR_COUNT)
        plans.append(replace(plan, head_count=head, probe_count=probes, slack=1.0, survivors=survivors))
    return plans
