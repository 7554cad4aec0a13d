"""Builds what a bundle is searched by, and chooses its plan, before the bundle is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from retrieval import limits
from retrieval.cells import find_cells
from retrieval.choose import best_of, choose
from retrieval.layout import Coded, Layout, encode, lay_out
from retrieval.measure import Exact, exact_answers, measure, timed
from retrieval.plan import EXACT, PARAM, Plan
from retrieval.retriever import Retriever

Float32 = NDArray[np.float32]

QUERY_COUNT_MAX = 256  # more do not move the mean by a thousandth


@dataclass(frozen=True)
class Built:
    """What goes into the bundle beside the model's arrays and params."""

    arrays: dict[str, np.ndarray]  # retrieval_*; none for an exact plan
    params: dict[str, Any]  # {"retrieval": the plan}
    plan: Plan


def build(factors: Float32, norms: Float32, queries: Float32, thread_count: int = 1) -> Built:
    """The arrays and the plan for rows by falling norm: factors (n, d), norms (n,), queries (m, d), all float32.

    queries are vectors of users, as requests will compute them; without any, the plan is chosen on the rows themselves.
    Deterministic but for the plan's time_us. ValueError when the norms rise anywhere.
    """
    if np.any(np.diff(norms) > 0):
        raise ValueError("the rows have to lie by falling norm: see ModelArrays.by_norm()")
    with threadpool_limits(thread_count):
        exact = exact_answers(factors, norms, _queries(factors, queries))
        plan, layout = _best(factors, norms, exact)
        plan = timed(plan, Retriever.of(plan, layout, factors, norms), exact) if len(exact.queries) else plan
    arrays = layout.to_arrays() if layout else {}
    return Built(arrays, {PARAM: plan.to_params()}, plan)


def _queries(factors: Float32, queries: Float32) -> Float32:
    queries = queries[np.any(queries != 0, axis=1)]
    if not len(queries):
        queries = factors[:: max(1, len(factors) // QUERY_COUNT_MAX)]
        queries = queries[np.any(queries != 0, axis=1)]
    return np.ascontiguousarray(queries[:QUERY_COUNT_MAX], dtype=np.float32)


def _best(factors: Float32, norms: Float32, exact: Exact) -> tuple[Plan, Layout | None]:
    whole = Plan(EXACT, reason="few items: nothing is faster than scanning them")
    if len(factors) <= limits.EXACT_ITEMS_MAX:
        return measure(whole, Retriever.of(whole, None, factors, norms), factors, exact), None
    best, best_layout = None, None
    for layout in _layouts(factors, norms):
        plan = choose(Retriever.of(whole, layout, factors, norms), factors, exact)
        if best is None or best_of([best, plan]) is plan:
            best, best_layout = plan, layout
    assert best is not None
    return replace(best, reason=best.reason or _reason(best)), best_layout


def _layouts(factors: Float32, norms: Float32) -> Iterator[Layout]:
    coded: Coded = encode(factors, norms)
    if len(factors) <= limits.CELLS_ITEMS_MIN:
        yield lay_out(coded, len(factors), None, factors[:0])
        return
    cells, centroids = find_cells(factors, norms)
    for head_count in limits.HEAD_COUNTS:
        if head_count < len(factors):
            yield lay_out(coded, head_count, cells, centroids)


def _reason(plan: Plan) -> str:
    return f"the least work, {plan.cost:.0f} rows' worth, that holds a recall of {limits.RECALL_TARGET}"
