"""Fits the base model: everything that serving needs but the ranker."""

from __future__ import annotations

from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.config import BaseConfig, Progress, no_progress
from training.dataset import Dataset
from training.neighbours import interactions, neighbour_lists, transition_lists
from vectorizer.model import ModelArrays, empty_forest
from vectorizer.signals import SIGNAL_LIKINGS

STAGE_COUNT = 4
# Neighbours and transitions take 8 bytes an entry each: 320 bytes an item at a million items, 1,600 up to 200,000.
LIST_ENTRIES_MAX = 20_000_000
LIST_LENGTH_MIN = 20


def fit_base(dataset: Dataset, config: BaseConfig, progress: Progress = no_progress) -> ModelArrays:
    """The base model of all events of `dataset`; items without events are not in it."""
    dataset = dataset.compact()
    n = len(dataset.items.keys)
    # implicit and numpy would start threads inside threads; its own are enough.
    with threadpool_limits(limits=1, user_api="blas"):
        progress("factors", 0, STAGE_COUNT)
        factors = fit_factors(dataset, config)[0]
        progress("neighbours", 1, STAGE_COUNT)
        neighbours = neighbour_lists(
            dataset, list_length(config.neighbour_count, n), config.ease_regularization, config.cosine_shrink
        )
        progress("transitions", 2, STAGE_COUNT)
        transitions = transition_lists(
            dataset,
            list_length(config.transition_count, n),
            config.transition_reach,
            config.transition_decay,
            config.transition_backward,
            config.transition_shrink,
            config.transition_power,
        )
        progress("statistics", 3, STAGE_COUNT)
        arrays = _factor_arrays(factors, config) | _statistics(dataset, config) | empty_forest()
    arrays["neighbours"], arrays["neighbour_weights"] = neighbours
    arrays["transitions"], arrays["transition_weights"] = transitions
    progress("statistics", STAGE_COUNT, STAGE_COUNT)
    return ModelArrays.from_arrays(arrays, _params(dataset, config))


def list_length(wanted: int, item_count: int) -> int:
    """How long the lists of so many items may be: LIST_ENTRIES_MAX entries in all, but LIST_LENGTH_MIN an item."""
    return min(wanted, max(LIST_ENTRIES_MAX // max(item_count, 1), LIST_LENGTH_MIN))


def fit_factors(dataset: Dataset, config: BaseConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """iALS: (n, d) item and (users, d) user factors, float32; the same for the same events and seed."""
    model = AlternatingLeastSquares(
        factors=config.factor_count,
        regularization=config.regularization,
        iterations=config.iteration_count,
        num_threads=config.thread_count,
        random_state=config.seed,
        calculate_training_loss=False,
    )
    seen = interactions(dataset)
    seen.data[:] = 1.0 + config.confidence
    model.fit(seen, show_progress=False)
    return np.ascontiguousarray(model.item_factors), np.ascontiguousarray(model.user_factors)


def _factor_arrays(factors: NDArray[np.float32], config: BaseConfig) -> dict[str, np.ndarray]:
    gram = (factors.T @ factors).astype(np.float32)
    gram[np.diag_indices_from(gram)] += np.float32(config.regularization)
    norms = np.linalg.norm(factors, axis=1).astype(np.float32)
    return {"factors": factors, "gram": gram, "factor_norms": norms}


def _statistics(dataset: Dataset, config: BaseConfig) -> dict[str, np.ndarray]:
    n = len(dataset.items.keys)
    counts = np.bincount(dataset.rows, minlength=n)
    popularity = (counts / max(len(dataset), 1)).astype(np.float32)
    likings = SIGNAL_LIKINGS[dataset.codes].astype(np.float64)
    prior = config.liking_prior_count
    liked = np.bincount(dataset.rows, weights=likings, minlength=n) + prior * likings.mean()
    first_times = np.full(n, np.iinfo(np.uint32).max, dtype=np.uint32)
    np.minimum.at(first_times, dataset.rows, dataset.times)
    bucket_counts = _bucket_counts(dataset, config)
    return {
        "item_keys": dataset.items.keys,
        "popularity": popularity,
        "popularity_order": np.argsort(-popularity, kind="stable").astype(np.int32),
        "categories": dataset.items.categories,
        "released": dataset.items.released,
        "liking": (liked / (counts + prior)).astype(np.float32),
        "first_times": first_times,
        "bucket_counts": bucket_counts,
        "bucket_totals": bucket_counts.sum(axis=0, dtype=np.float32),
    }


def _bucket_counts(dataset: Dataset, config: BaseConfig) -> NDArray[np.float32]:
    # (n, B + 1) events before each bucket edge; the last edge lies just after the last event.
    n, edges = len(dataset.items.keys), config.bucket_count + 1
    bucket = (dataset.times.astype(np.int64) - _bucket_start_s(dataset, config)) // config.bucket_width_s
    first_edge = np.clip(bucket + 1, 0, edges - 1)
    flat = np.bincount(dataset.rows * np.int64(edges) + first_edge, minlength=n * edges)
    return np.cumsum(flat.reshape(n, edges), axis=1).astype(np.float32)


def _bucket_start_s(dataset: Dataset, config: BaseConfig) -> int:
    return int(dataset.times[-1]) + 1 - config.bucket_count * config.bucket_width_s


def _params(dataset: Dataset, config: BaseConfig) -> dict[str, Any]:
    return {
        "confidence": config.fold_confidence,
        "decay": config.decay,
        "decay_slow": config.decay_slow,
        "decay_fast": config.decay_fast,
        "bucket_start_s": _bucket_start_s(dataset, config),
        "bucket_width_s": config.bucket_width_s,
        "event_count": len(dataset),
        "user_count": dataset.user_count,
        "trained_until_s": int(dataset.times[-1]),
    }
