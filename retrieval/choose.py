"""Chooses the cheapest plan that finds enough: by measuring recall, and by counting work rather than timing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retrieval import limits
from retrieval.lanes import BLOCK_ROW_COUNT
from retrieval.layout import Layout
from retrieval.measure import Exact, measure
from retrieval.plan import HEAD, HEAD_CELLS, Plan
from retrieval.retriever import NO_MASK, Mask, Retriever

Float32 = NDArray[np.float32]

SLACK_MARGIN = 1.02  # other users' cosines reach a little beyond those of the sample


def choose(retriever: Retriever, factors: Float32, exact: Exact, hidden: Mask = NO_MASK) -> Plan:
    """The cheapest plan that holds RECALL_TARGET among those that the retriever's arrays allow; if none, that of best recall."""
    layout = retriever.layout
    assert layout is not None
    slack = min(1.0, exact.cosine_max * SLACK_MARGIN)
    tried = [
        plan
        for shape in _shapes(layout, slack)
        for plan in _narrowed(shape, retriever, factors, exact, hidden)
    ]
    return best_of(tried)


def best_of(plans: list[Plan]) -> Plan:
    """The cheapest of those that hold the target; if none does, the one of best recall."""
    holding = [plan for plan in plans if plan.holds]
    if holding:
        return min(holding, key=lambda plan: plan.cost)
    best = max(plans, key=lambda plan: (plan.recall_mean, plan.recall_p5, -plan.cost))
    return replace(best, reason=f"no plan holds a recall of {limits.RECALL_TARGET}: this one comes nearest")


def _shapes(layout: Layout, slack: float) -> Iterator[list[Plan]]:
    """Lists of plans, each from narrow to wide."""
    most = max(limits.SURVIVOR_COUNTS)
    if layout.cell_count:
        rows = int(np.count_nonzero(layout.rows[: layout.starts[0] * BLOCK_ROW_COUNT] >= 0))
        probes = [count for count in limits.PROBE_COUNTS if count < layout.cell_count] + [layout.cell_count]
        yield [Plan(HEAD_CELLS, rows, count, most, slack) for count in probes if rows or count]
        return
    rows = int(np.count_nonzero(layout.rows >= 0))
    heads = [count for count in limits.HEAD_COUNTS if 0 < count < rows] + [rows]
    yield [Plan(HEAD, count, 0, most, slack) for count in heads]


def _narrowed(
    widening: list[Plan], retriever: Retriever, factors: Float32, exact: Exact, hidden: Mask
) -> Iterator[Plan]:
    """The first of the plans that holds, and it with fewer survivors; all of them where none holds."""
    for plan in widening:
        plan = measure(plan, retriever, factors, exact, hidden)
        yield plan
        if plan.holds:
            for survivors in limits.SURVIVOR_COUNTS[:-1]:
                yield measure(replace(plan, survivors=survivors), retriever, factors, exact, hidden)
            return
