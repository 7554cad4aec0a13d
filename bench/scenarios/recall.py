"""How much of the exact answer the published model's retrieval finds, and how soon."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bench.data
import bundle
from bench.scenarios.context import Context, Found, output_of
from retrieval import Retriever
from vectorizer.model import ModelArrays

HEAD_SHARES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the published plan's head
SPACE = "l2"  # of hnswlib, the one that the usual stack uses: its graph is there already
HNSWLIB_WAIT_S_MAX = 900.0
ROUNDS = 2


def recall(context: Context) -> Found:
    """Mean recall@200 over the data set's queries, through the retriever that serving opens."""
    keys, retriever, params = opened(context)
    shares, times_us = _searched(context, keys, retriever)
    details = {
        "queries": len(shares),
        "recall_mean": float(np.mean(shares)),
        "recall_p5": float(np.quantile(shares, 0.05)),
        "search_us_p50": float(np.quantile(times_us, 0.5)),
        "search_us_p99": float(np.quantile(times_us, 0.99)),
        "plan": params.get("retrieval", {}),
    }
    metrics = {"recall_at_200": details["recall_mean"], "retrieval_us": details["search_us_p50"]}
    return Found(metrics, details)


def sweep(context: Context, with_hnswlib: bool) -> Found:
    """The same retriever at other widths, and hnswlib alone beside it, for the report."""
    keys, retriever, _ = opened(context)
    plan, points = retriever.plan, []
    heads = [int(plan.head_count * share) for share in HEAD_SHARES] if plan.head_count else [0]
    for head in heads:
        head = min(head, len(keys))
        retriever.use(replace(plan, head_count=head))
        shares, times_us = _searched(context, keys, retriever)
        points.append(
            {"head_count": head, "recall": float(np.mean(shares)), "us": float(np.median(times_us))}
        )
    return Found({}, {"ours": points, "hnswlib": _hnswlib(context) if with_hnswlib else {}})


def _hnswlib(context: Context) -> dict[str, list[dict[str, float]]]:
    dataset = str(bench.data.make(context.system.options))
    command = ["bench.peers.hnswlib_alone", "--dataset", dataset, "--space", SPACE]
    output = output_of([*command, "--core", str(context.serving_core)], HNSWLIB_WAIT_S_MAX)
    found: dict[str, Any] = json.loads(output)
    points = found["curves"][SPACE]
    return {SPACE: [{"ef": p["ef"], "recall": p["recall_at_200"], "us": p["us_p50"]} for p in points]}


def opened(context: Context) -> tuple[NDArray[np.int32], Retriever, Any]:
    """The published model's keys by row, the retriever that serving opens, and the model's params."""
    path = max(path for path in context.system.settings.models_dir.iterdir() if path.name[0] != ".")
    opened = bundle.open_bundle(path, verify=False)
    model = ModelArrays.from_arrays(opened.arrays, opened.manifest.params)
    return (
        np.asarray(model.item_keys),
        Retriever(opened.arrays, opened.manifest.params, model),
        opened.manifest.params,
    )


def _searched(
    context: Context, keys: NDArray[np.int32], retriever: Retriever
) -> tuple[list[float], list[float]]:
    """Recall and microseconds of each query; the least of two rounds, as what the machine did besides is not the search's."""
    data = context.system.dataset
    # The bundle's rows may stand in another order than the data set's: compared are keys.
    count, truth = data.truth.shape[1], np.asarray(data.model.item_keys)[data.truth]
    shares, times_us = [], []
    for query, wanted in zip(data.queries, truth, strict=True):
        took_us = []
        for _ in range(ROUNDS):
            start_s = time.perf_counter()
            rows = retriever.search(query, count)
            took_us.append((time.perf_counter() - start_s) * 1e6)
        times_us.append(min(took_us))
        shares.append(len(np.intersect1d(keys[rows], wanted)) / count)
    return shares, times_us
