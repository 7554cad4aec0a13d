"""The usual stack's features in numpy: the same 36 as vectorizer.features, a column a candidate, vectorised throughout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.peers.usual_candidates import Lists, Rows
from bench.peers.usual_ring import Ring
from vectorizer.features import (
    BUCKET_PRIOR_COUNT,
    DAY_S,
    FEATURE_COUNT,
    MONTH_BUCKET_COUNT,
    POPULARITY_FLOOR,
    RECENT_ITEM_COUNT,
    WEEK_BUCKET_COUNT,
)
from vectorizer.limits import SESSION_GAP_S
from vectorizer.model import ModelArrays
from vectorizer.signals import SIGNAL_LIKINGS

TINY = 1e-9
Matrix = NDArray[np.float32]


def features(
    rows: Rows, ring: Ring, vectors: NDArray[np.float32], found: Lists, now_s: int, model: ModelArrays
) -> Matrix:
    """(k, 36) float32 as of `now_s`, in the order of FEATURES."""
    out = np.empty((FEATURE_COUNT, len(rows)), dtype=np.float32)
    factors, norms = model.factors[rows], np.maximum(model.factor_norms[rows], TINY)
    products = factors @ vectors.T  # (k, 3)
    out[0], out[1], out[30] = products.T
    out[2] = products[:, 0] / (max(float(np.linalg.norm(vectors[0])), TINY) * norms)
    out[3:11] = found.of(rows).T
    _cosines(out, ring, factors, norms, model)
    _popularities(out, rows, ring, now_s, model)
    _attributes(out, rows, ring, now_s, model)
    _ring(out, ring, now_s)
    out[31:34] = out[:3] - out[:3].max(axis=1, keepdims=True)
    for place, source in ((34, 5), (35, 8)):
        out[place] = out[source] / max(float(out[source].max()), TINY)
    return np.ascontiguousarray(out.T)


def _slow(ring: Ring) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.1 * np.arange(len(ring) - 1, -1, -1)))


def _cosines(out: Matrix, ring: Ring, factors: Matrix, norms: Matrix, model: ModelArrays) -> None:
    recent = ring["row"][-RECENT_ITEM_COUNT:][::-1]
    units = model.factors[recent] / np.maximum(model.factor_norms[recent], TINY)[:, None]
    cosines = factors @ units.T / norms[:, None]
    out[11], out[12] = cosines[:, 0], np.maximum(cosines.max(axis=1), 0)


def _popularities(out: Matrix, rows: Rows, ring: Ring, now_s: int, model: ModelArrays) -> None:
    popular = np.log(model.popularity[rows] + POPULARITY_FLOOR)
    slow = _slow(ring)
    mean = slow @ np.log(model.popularity[ring["row"]] + POPULARITY_FLOOR) / slow.sum()
    edges = len(model.bucket_totals) - 1
    start_s, width_s = int(model.params["bucket_start_s"]), int(model.params["bucket_width_s"])
    end = min(max((now_s - start_s) // width_s, 0), edges)
    out[13] = popular
    for place, width in ((14, WEEK_BUCKET_COUNT), (15, MONTH_BUCKET_COUNT)):
        begin = max(end - width, 0)
        counts = model.bucket_counts[rows, end] - model.bucket_counts[rows, begin]
        total = model.bucket_totals[end] - model.bucket_totals[begin]
        out[place] = np.log((counts + BUCKET_PRIOR_COUNT) / (total + BUCKET_PRIOR_COUNT * model.item_count))
    out[16], out[25] = out[15] - popular, popular - mean


def _attributes(out: Matrix, rows: Rows, ring: Ring, now_s: int, model: ModelArrays) -> None:
    out[17] = np.log1p(np.maximum(now_s - model.first_times[rows].astype(np.int64), 0) / DAY_S)
    out[18] = model.liking[rows]
    slow, years = _slow(ring), model.released[ring["row"]]
    weight = slow[years > 0].sum()
    mean = slow @ np.where(years > 0, years, 0) / weight if weight > 0 else 0.0
    released = model.released[rows]
    gap = np.where((released > 0) & (mean > 0), released - mean, 0)
    out[19], out[20], out[21] = released, gap, np.abs(gap)
    fast = np.exp(-0.5 * np.arange(len(ring) - 1, -1, -1))
    likings = SIGNAL_LIKINGS[ring["code"] & 15]
    shares = np.stack([slow / slow.sum(), fast / fast.sum(), likings / len(ring)]) @ _bits(
        model.categories[ring["row"]]
    )
    bits = _bits(model.categories[rows])
    out[22:25] = shares @ bits.T / np.maximum(bits.sum(axis=1), 1)


def _bits(masks: NDArray[np.uint64]) -> Matrix:
    """(m,) masks -> (m, 64) float32 of zeros and ones."""
    octets = np.ascontiguousarray(masks, dtype="<u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1, bitorder="little").astype(np.float32)


def _ring(out: Matrix, ring: Ring, now_s: int) -> None:
    idle_s = now_s - ring["time"].astype(np.int64)
    out[26] = len(ring)
    out[27] = np.log1p(max(int(idle_s[-1]), 0))
    out[28] = np.count_nonzero(idle_s <= SESSION_GAP_S)
    out[29] = SIGNAL_LIKINGS[ring["code"] & 15].mean()
