"""How much of the exact answer the published model's retrieval finds, and how soon."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import bundle
from bench.scenarios.context import Context, Found
from vectorizer.model import ModelArrays

WARM_UP = 20


def recall(context: Context) -> Found:
    """Mean recall@200 over the data set's queries, through the retriever that serving opens."""
    from retrieval.retriever import Retriever

    data = context.system.dataset
    path = max(path for path in context.system.settings.models_dir.iterdir() if path.name[0] != ".")
    opened = bundle.open_bundle(path, verify=False)
    model = ModelArrays.from_arrays(opened.arrays, opened.manifest.params)
    retriever = Retriever(opened.arrays, opened.manifest.params, model)
    count = data.truth.shape[1]
    empty = np.zeros(0, dtype=np.int32)
    hidden = np.zeros(model.item_count, dtype=np.uint8)
    # The bundle's rows may stand in another order than the data set's: compared are keys.
    keys, truth = np.asarray(model.item_keys), np.asarray(data.model.item_keys)[data.truth]
    shares, times_us = [], []
    for query, wanted in zip(data.queries, truth, strict=True):
        start_s = time.perf_counter()
        rows = retriever.search(query, count, hidden, empty)
        times_us.append((time.perf_counter() - start_s) * 1e6)
        shares.append(len(np.intersect1d(keys[rows], wanted)) / count)
    return Found(
        {"recall_at_200": float(np.mean(shares))},
        _details(shares, times_us[WARM_UP:], opened.manifest.params),
    )


def _details(shares: list[float], times_us: list[float], params: Any) -> dict[str, Any]:
    return {
        "queries": len(shares),
        "recall_p5": float(np.quantile(shares, 0.05)),
        "search_us_p50": float(np.quantile(times_us, 0.5)),
        "search_us_p99": float(np.quantile(times_us, 0.99)),
        "plan": params.get("retrieval", {}),
    }
