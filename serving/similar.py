"""The items most like one item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reco.errors.v1 import error_reason_pb2
from reco.ranking.v1.ranking_service_pb2 import Degradation, SimilarItemsRequest, SimilarItemsResponse

from runtime.errors import NotFoundError
from serving import answers
from serving.answers import Answer
from serving.catalogue import Catalogue
from serving.eligibility import Eligible
from serving.engine import Engine
from serving.kernels import select_top, share_categories
from serving.limits import PAGE_SIZE_DEFAULT
from serving.model import LoadedModel
from vectorizer.sources import SIMILAR

Int32 = NDArray[np.int32]  # keys, or rows of the model
Scores = NDArray[np.float32]

SHARE_MIN = 1e-9  # with no category in common an item is not similar


def similar_items(request: SimilarItemsRequest, engine: Engine) -> Answer:
    """Answers one request, a SimilarItemsResponse. NotFoundError ITEM_UNKNOWN, CallerError FILTER_INVALID."""
    catalogue, model = engine.catalogue, engine.models.current
    catalogue.expire(engine.clock.time_s())
    key = _key_of(request.item_id, catalogue)
    eligible = engine.eligibility.of(model, request.filter)
    excluded = catalogue.keys_of([request.item_id, *request.exclude_item_ids])
    count = request.page_size or PAGE_SIZE_DEFAULT
    row = int(model.rows_of(np.array([key], dtype=np.int32))[0]) if model else -1
    live = engine.live.of(model)
    vector = live.vector_of(key) if live and row < 0 else None
    if model is not None and vector is not None:
        rows, scores = _by_vector(vector, count, model.rows_of(excluded), eligible, model)
        keys = model.arrays.item_keys[rows]
    elif model is None or row < 0:
        keys, scores = _by_categories(key, count, excluded, eligible, catalogue)
    else:
        rows, scores = _by_model(row, count, model.rows_of(excluded), eligible, model)
        keys = model.arrays.item_keys[rows]
    bits = np.full(len(keys), SIMILAR, dtype=np.uint8)
    items = answers.encoded_recommendations(catalogue, keys, scores, bits)
    degradations = _degradations(engine, model, len(keys) < count)
    rest = SimilarItemsResponse(
        model_version=model.version if model else "",
        attribution_token=answers.attribution_token(engine, model),
        degradations=degradations,
    )
    return Answer(items + rest.SerializeToString(), degradations)


def _degradations(engine: Engine, model: LoadedModel | None, short: bool) -> list[Degradation.ValueType]:
    # No ranker has a part in this, so that none is missed.
    skipped = Degradation.DEGRADATION_RANKER_SKIPPED
    return [d for d in answers.degradations_of(engine, model, short) if d != skipped]


def _key_of(item_id: str, catalogue: Catalogue) -> int:
    key = catalogue.key_of(item_id)
    if key is None:
        message = f"there is no item {item_id!r}; upsert it first"
        metadata = {"field": "item_id", "item_id": item_id}
        raise NotFoundError(error_reason_pb2.ERROR_REASON_ITEM_UNKNOWN, message, metadata)
    return key


def _by_model(
    row: int, count: int, blocked_rows: Int32, eligible: Eligible, model: LoadedModel
) -> tuple[Int32, Scores]:
    """At most `count` rows and their scores: the item's own list, above 1, then what lies in its direction, by cosine."""
    near, weights = _listed(row, count, blocked_rows, eligible, model)
    known = np.concatenate([blocked_rows, near])
    far = model.retriever.nearest(row, count - len(near), eligible.hidden, known, eligible.shown)
    arrays = model.arrays
    lengths = np.maximum(arrays.factor_norms[far] * arrays.factor_norms[row], np.float32(1e-12))
    cosines = (arrays.factors[far] @ arrays.factors[row]) / lengths
    return np.concatenate([near, far]), np.concatenate([weights, cosines]).astype(np.float32)


def _by_vector(
    vector: Scores, count: int, blocked_rows: Int32, eligible: Eligible, model: LoadedModel
) -> tuple[Int32, Scores]:
    """At most `count` rows in a new item's direction, and their cosines."""
    rows = model.retriever.nearest(vector, count, eligible.hidden, blocked_rows, eligible.shown)
    arrays = model.arrays
    lengths = np.maximum(arrays.factor_norms[rows] * np.linalg.norm(vector), np.float32(1e-12))
    return rows, ((arrays.factors[rows] @ vector) / lengths).astype(np.float32)


def _listed(
    row: int, count: int, blocked_rows: Int32, eligible: Eligible, model: LoadedModel
) -> tuple[Int32, Scores]:
    """Of the item's own list, best first, what may be answered."""
    rows = model.arrays.neighbours[row]
    passing = (rows >= 0) & ~np.isin(rows, blocked_rows)
    if len(eligible.hidden):
        passing &= eligible.hidden[rows] == 0
    places = np.flatnonzero(passing)[:count]
    return rows[places], model.arrays.neighbour_weights[row, places] + np.float32(1.0)


def _by_categories(
    key: int, count: int, excluded: Int32, eligible: Eligible, catalogue: Catalogue
) -> tuple[Int32, Scores]:
    """For an item that no model knows: by the share of categories in common. A pass over all items, 2 ms a million."""
    shares = np.empty(len(eligible.mask), dtype=np.float32)
    bits = catalogue.category_bits
    share_categories(bits, bits[key], eligible.mask, shares)
    shares[excluded] = 0
    chosen = np.empty(count, dtype=np.int64)
    keys = chosen[: select_top(shares, SHARE_MIN, chosen)]
    return keys.astype(np.int32), shares[keys]
