"""The generated catalogue as the arrays of a model, as training would have left them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.generate import lists
from bench.generate.attributes import Attributes, category_masks
from bench.generate.factors import Catalogue
from bench.generate.users import SPAN_S, Events
from vectorizer.features import MONTH_BUCKET_COUNT
from vectorizer.model import ModelArrays, empty_forest
from vectorizer.signals import SIGNAL_LIKINGS

REGULARIZATION = 40.0  # training/config.py's
LIST_COUNT = 20  # neighbours and transitions of an item, as training keeps of a million
BUCKET_S = 7 * 86_400
# An event of norm 1 weighs against all that the user has not touched as in the fit of 23,715 real items (60 against 66).
CONFIDENCE_OVER_GRAM = 0.9


def generate(
    catalogue: Catalogue, attributes: Attributes, events: Events, rng: np.random.Generator
) -> ModelArrays:
    """The base model, without a forest."""
    n, d = catalogue.factors.shape
    gram = (catalogue.factors.T @ catalogue.factors).astype(np.float32)
    gram[np.diag_indices(d)] += np.float32(REGULARIZATION)
    arrays: dict[str, np.ndarray] = {
        "item_keys": (rng.permutation(n) + 1).astype(np.int32),
        "popularity": catalogue.popularity,
        "popularity_order": np.argsort(-catalogue.popularity, kind="stable").astype(np.int32),
        "factors": catalogue.factors,
        "factor_norms": catalogue.norms,
        "gram": gram,
        "categories": category_masks(attributes),
        "released": attributes.released.astype(np.float32),
        **empty_forest(),
    }
    arrays["neighbours"], arrays["neighbour_weights"] = lists.generate(catalogue, LIST_COUNT, rng)
    arrays["transitions"], arrays["transition_weights"] = lists.generate(catalogue, LIST_COUNT, rng)
    arrays |= _statistics(n, attributes, events)
    return ModelArrays.from_arrays(arrays, _params(gram, events))


def _statistics(n: int, attributes: Attributes, events: Events) -> dict[str, np.ndarray]:
    likings = SIGNAL_LIKINGS[events.codes].astype(np.float64)
    counts = np.bincount(events.rows, minlength=n)
    liked = np.bincount(events.rows, weights=likings, minlength=n) + 10 * likings.mean()
    edges = _start_s(events) + BUCKET_S * np.arange(MONTH_BUCKET_COUNT + 1)
    before = [np.bincount(events.rows[events.times < edge], minlength=n) for edge in edges]
    bucket_counts = np.stack(before, axis=1).astype(np.float32)
    return {
        "liking": (liked / (counts + 10)).astype(np.float32),
        "first_times": attributes.created_s.astype(np.uint32),
        "bucket_counts": bucket_counts,
        "bucket_totals": bucket_counts.sum(axis=0, dtype=np.float32),
    }


def _start_s(events: Events) -> int:
    return int(events.times.max()) + 1 - MONTH_BUCKET_COUNT * BUCKET_S


def _params(gram: np.ndarray, events: Events) -> dict[str, Any]:
    return {
        "confidence": float(CONFIDENCE_OVER_GRAM * np.trace(gram) / len(gram)),
        "decay": 0.3,
        "decay_slow": 0.03,
        "decay_fast": 1.0,
        "bucket_start_s": _start_s(events),
        "bucket_width_s": BUCKET_S,
        "event_count": len(events.rows),
        "user_count": len(events.offsets) - 1,
        "trained_until_s": int(events.times.max()),
    }


assert SPAN_S > MONTH_BUCKET_COUNT * BUCKET_S, "the newest buckets have events"
