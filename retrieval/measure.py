"""What a plan is worth: the recall of its searches against the exact answer, and what they cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.limits import COUNT
from retrieval.plan import Plan
from retrieval.retriever import NO_MASK, Mask, Retriever

Float32 = NDArray[np.float32]

PIECE_COUNT = 16  # queries scored against all rows at a time: 64 MB for a million rows
ROUND_COUNT = 5  # the fastest of so many rounds over the queries is the plan's time
_ROUNDING = 1e-5  # of a score: sums of another order differ by as much


@dataclass(frozen=True)
class Exact:
    """The truth about m queries."""

    queries: Float32  # (m, d) float32
    lowest: Float32  # (m,) float32, the score of the last of the exact best
    count: int  # how many the exact best are
    cosine_max: float  # of a query and a row among its best


def exact_answers(factors: Float32, norms: Float32, queries: Float32, hidden: Mask = NO_MASK) -> Exact:
    """The exact best COUNT of the rows that are not hidden, for each query (m, d) float32."""
    passing = len(factors) - int(np.count_nonzero(hidden))
    count = min(COUNT, passing)
    lowest, cosine_max = np.full(len(queries), -np.inf, dtype=np.float32), 0.0
    for at in range(0, len(queries) if count else 0, PIECE_COUNT):
        part = queries[at : at + PIECE_COUNT]
        scores = part @ factors.T
        if len(hidden):
            scores[:, hidden != 0] = -np.inf
        for i, row in enumerate(scores):
            best = np.argpartition(-row, count - 1)[:count]
            lowest[at + i] = row[best].min()
            lengths = np.maximum(norms[best] * np.linalg.norm(part[i]), np.float32(1e-30))
            cosine_max = max(cosine_max, float((row[best] / lengths).max()))
    return Exact(queries, lowest, count, min(1.0, cosine_max))


def measure(plan: Plan, retriever: Retriever, factors: Float32, exact: Exact, hidden: Mask = NO_MASK) -> Plan:
    """The plan with its recall and the rows it scanned. The retriever searches by it afterwards."""
    retriever.use(plan)
    recalls, rows = np.ones(max(1, len(exact.queries))), 0
    for i, query in enumerate(exact.queries if exact.count else exact.queries[:0]):
        found = retriever.search(query, exact.count, hidden)
        rows += retriever.row_count
        least = exact.lowest[i] - _ROUNDING * abs(exact.lowest[i])
        # By score and not by row: of duplicates, one is as good as another.
        recalls[i] = np.count_nonzero(factors[found] @ query >= least) / exact.count
    return replace(
        plan,
        recall_mean=round(float(np.mean(recalls)), 4),
        recall_p5=round(float(np.percentile(recalls, 5)), 4),
        row_count=round(rows / max(1, len(recalls)), 1),
    )


def timed(plan: Plan, retriever: Retriever, exact: Exact) -> Plan:
    """The plan with the time of one search, in microseconds."""
    retriever.use(plan)
    seconds = min(_round_s(retriever, exact) for _ in range(ROUND_COUNT))
    return replace(plan, time_us=round(seconds / max(1, len(exact.queries)) * 1e6, 1))


def _round_s(retriever: Retriever, exact: Exact) -> float:
    start_s = time.perf_counter()
    for query in exact.queries:
        retriever.search(query, exact.count)
    return time.perf_counter() - start_s
