"""Filters that leave from 0.001 % to 100 % of the items: what the user likes best, least, or any; how soon, and how good.

Time is the handler's own, of calls to a real server one after the other, once a filter has been in use for a moment. Recall@100 is
against an exact scan of what passes, through the retriever that serving opens, searched as serving does after it has measured the
filter: on other users than those who are counted here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest, RecommendResponse

from bench.dataset import Dataset
from bench.generate.attributes import NUMBERS, RANK_END, user_id
from bench.load import server_timing
from bench.load.target import RPCS
from bench.processes import Server
from bench.scenarios.context import Context, Found
from bench.scenarios.recall import opened
from retrieval import Retriever, tuned, whole
from retrieval.limits import COUNT, FILTER_QUERY_COUNT, FILTER_RECALL_COUNT
from retrieval.shown import NO_ROWS, Shown

SHARES = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1.0)
QUICK_SHARES = (1e-5, 0.01, 0.2, 0.5, 1.0)
KINDS = ("any", "best", "least")  # of what the user likes
CALLS = 250  # of each filter at full size, counted
QUERIES = 48  # of each filter, for recall
USERS = 64  # nearest to the taste that `appeal` goes by
SETTLE_S = 2.0  # for the server to measure a filter: it does in the background
CALL_WAIT_S_MAX = 10.0
TOP_SHARE = 0.01  # of the items by `appeal`: their mean is the taste

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Filter:
    """A filter and the rows of the data set that it leaves."""

    kind: str
    share: float
    text: str
    passing: NDArray[np.bool_]  # (n,)


def filters(context: Context, server: Server) -> Found:
    """Every filter through the server, and then through the retriever."""
    data = context.system.dataset
    quick = context.timing.rounds == 1
    steps = list(_filters(data, QUICK_SHARES if quick else SHARES))
    calls = min(CALLS, context.timing.calls)
    near = _nearest(data)
    timed = _timed(server, steps, data, near, calls)
    recalls = _recalls(context, steps, data, near)
    details = [
        {"kind": step.kind, "share": step.share, "passing": int(step.passing.sum()), **time_ms, **recall}
        for step, time_ms, recall in zip(steps, timed, recalls, strict=True)
    ]
    metrics = {
        "filter_ms_p99_max": max(each["ms_p99"] for each in details),
        "filter_recall_min": min(each["recall"] for each in details),
    }
    return Found(metrics, {"steps": details})


def _filters(data: Dataset, shares: tuple[float, ...]) -> Iterator[Filter]:
    numbers = np.asarray(data.attributes.numbers)
    lot, appeal = numbers[:, NUMBERS.index("lot")], numbers[:, NUMBERS.index("appeal")]
    for share in shares:
        # At least ten items, whatever the catalogue's size: a filter that leaves nothing is quick and right.
        count = max(round(share * RANK_END), round(10 * RANK_END / len(lot)))
        count = min(count, RANK_END)
        yield Filter("any", share, f"lot<{count}", lot < count)
        yield Filter("best", share, f"appeal>={RANK_END - count}", appeal >= RANK_END - count)
        yield Filter("least", share, f"appeal<{count}", appeal < count)


def _nearest(data: Dataset) -> NDArray[np.int64]:
    """(USERS,) places in the data set's queries: of those who like what `appeal` goes by, the most so first."""
    appeal = np.asarray(data.attributes.numbers)[:, NUMBERS.index("appeal")]
    taste = np.asarray(data.model.factors)[appeal >= (1 - TOP_SHARE) * RANK_END].mean(axis=0)
    queries = np.asarray(data.queries)
    cosines = (queries @ taste) / np.linalg.norm(queries, axis=1)
    return np.argsort(-cosines)[:USERS]


def _timed(
    server: Server, steps: list[Filter], data: Dataset, near: NDArray[np.int64], calls: int
) -> list[dict[str, Any]]:
    users = np.asarray(data.query_users)
    with grpc.insecure_channel(server.address) as channel:
        recommend = channel.unary_unary(
            RPCS["Recommend"],
            request_serializer=RecommendRequest.SerializeToString,
            response_deserializer=RecommendResponse.FromString,
        )
        return [
            _time_of(recommend, step, users[near] if step.kind != "any" else users, calls) for step in steps
        ]


def _time_of(recommend: Any, step: Filter, users: NDArray[np.int32], calls: int) -> dict[str, Any]:
    first_ms, _ = _call(recommend, step, int(users[0]))
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        _, report = _call(recommend, step, int(users[0]))
        if report.HasField("estimated_recall") or time.monotonic() > deadline_s:
            break
        time.sleep(0.05)
    times_ms = [_call(recommend, step, int(users[i % len(users)]))[0] for i in range(calls)]
    return {
        "ms_first": first_ms,
        "ms_p50": float(np.quantile(times_ms, 0.5)),
        "ms_p99": float(np.quantile(times_ms, 0.99)),
        "mode": int(report.mode),
        "passing_told": int(report.passing_count),
        "estimated_recall": report.estimated_recall if report.HasField("estimated_recall") else None,
    }


def _call(recommend: Any, step: Filter, user: int) -> tuple[float, Any]:
    request = RecommendRequest(user_id=user_id(user), filter=step.text, page_size=20)
    response, call = recommend.with_call(request, timeout=CALL_WAIT_S_MAX)
    told = {name: value for name, value in (call.trailing_metadata() or ()) if name == "server-timing"}
    stages_ms = server_timing.parse(str(told.get("server-timing", "")))
    return stages_ms.get("total", 0.0), response.filter_report


def _recalls(
    context: Context, steps: list[Filter], data: Dataset, near: NDArray[np.int64]
) -> Iterator[dict[str, Any]]:
    keys, retriever, _ = opened(context)
    # The bundle's rows may stand in another order than the data set's.
    order = np.empty(int(keys.max()) + 1, dtype=np.int64)
    order[np.asarray(data.model.item_keys)] = np.arange(len(keys))
    order, queries = order[keys], np.asarray(data.queries)
    seen = queries[-FILTER_QUERY_COUNT:]  # by users as they come, as serving has it
    for step in steps:
        whose = queries[near] if step.kind != "any" else queries
        hidden = (~step.passing[order]).astype(np.uint8)
        yield _recall_of(retriever, hidden, seen, whose[:QUERIES])


def _recall_of(
    retriever: Retriever, hidden: NDArray[np.uint8], seen: Float32, queries: Float32
) -> dict[str, Any]:
    count = len(hidden) - int(np.count_nonzero(hidden))
    rows = retriever.shown_rows_of(hidden, count) if count < len(hidden) else None
    plan = whole(retriever)
    shown = rows.now() if rows else Shown(NO_ROWS, plan=plan) if plan and count < len(hidden) else None
    shown = tuned(retriever, hidden, shown, seen).shown
    shares, times_us = [], []
    for query in queries:
        start_s = time.perf_counter()
        found = retriever.search(query, COUNT, hidden, shown=shown)
        times_us.append((time.perf_counter() - start_s) * 1e6)
        best = retriever.exact(query, FILTER_RECALL_COUNT, hidden)
        shares.append(len(np.intersect1d(found, best)) / max(1, len(best)))
    return {
        "recall": float(np.mean(shares)),
        "recall_of_worst_user": float(np.min(shares)),
        "search_us_p50": float(np.median(times_us)),
    }
