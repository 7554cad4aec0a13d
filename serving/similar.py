"""The items most like one item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reco.errors.v1 import error_reason_pb2
from reco.ranking.v1.ranking_service_pb2 import Degradation, SimilarItemsRequest, SimilarItemsResponse

from retrieval import Retriever
from runtime.errors import NotFoundError
from serving import answers
from serving.catalogue import Catalogue
from serving.engine import Engine
from serving.limits import PAGE_SIZE_DEFAULT
from serving.model import LoadedModel
from vectorizer import similar_items as similar_rows
from vectorizer.sources import SIMILAR

NEAREST_COUNT = 600  # by direction; a filter that leaves too few of them is answered by an exact scan

Keys = NDArray[np.int32]
Scores = NDArray[np.float32]


def similar_items(request: SimilarItemsRequest, engine: Engine) -> SimilarItemsResponse:
    """Answers one request. NotFoundError ITEM_UNKNOWN, CallerError FILTER_INVALID."""
    catalogue, model = engine.catalogue, engine.models.current
    catalogue.expire(engine.clock.time_s())
    key = _key_of(request.item_id, catalogue)
    mask = engine.eligibility.of(model, request.filter).mask
    excluded = catalogue.keys_of([request.item_id, *request.exclude_item_ids])
    count = request.page_size or PAGE_SIZE_DEFAULT
    hidden_count = len(excluded) + len(mask) - int(np.count_nonzero(mask))
    keys, scores = _similar(key, count + hidden_count, model, catalogue, model.retriever if model else None)
    kept = _kept(keys, mask, excluded, count)
    if len(kept) < count and model is not None and model.retriever.layout is not None:
        # Too few of those nearby pass: a narrow filter is worth an exact scan.
        keys, scores = _similar(key, count + hidden_count, model, catalogue, None)
        kept = _kept(keys, mask, excluded, count)
    bits = np.full(len(kept), SIMILAR, dtype=np.uint8)
    return SimilarItemsResponse(
        items=answers.recommendations(catalogue, keys[kept], scores[kept], bits),
        model_version=model.version if model else "",
        attribution_token=answers.attribution_token(engine, model),
        degradations=_degradations(engine, model, len(kept) < count),
    )


def _kept(keys: Keys, mask: NDArray[np.bool_], excluded: Keys, count: int) -> NDArray[np.int64]:
    """Places of the first `count` keys that may be answered."""
    kept = np.flatnonzero(mask[np.minimum(keys, len(mask) - 1)] & (keys < len(mask)))
    return kept[~np.isin(keys[kept], excluded)][:count]


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


def _similar(
    key: int, count: int, model: LoadedModel | None, catalogue: Catalogue, retriever: Retriever | None
) -> tuple[Keys, Scores]:
    """At most `count` keys like `key`, best first, and their scores."""
    row = int(model.rows_of(np.array([key], dtype=np.int32))[0]) if model else -1
    if model is None or row < 0:
        return _by_categories(key, catalogue)
    rows, scores = (
        _near(row, model, retriever) if retriever and retriever.layout else _exact(row, count, model)
    )
    return model.arrays.item_keys[rows], scores


def _exact(row: int, count: int, model: LoadedModel) -> tuple[Keys, Scores]:
    return similar_rows(row, min(count, model.arrays.item_count), model.arrays)


def _near(row: int, model: LoadedModel, retriever: Retriever) -> tuple[Keys, Scores]:
    """The item's own list, then what retrieval finds in its direction, by cosine."""
    arrays = model.arrays
    listed = int(np.count_nonzero(arrays.neighbours[row] >= 0))
    near, weights = similar_rows(row, listed, arrays) if listed else (arrays.neighbours[row, :0], np.zeros(0))
    far = retriever.nearest(row, NEAREST_COUNT)
    far = far[~np.isin(far, near)]
    norms = np.maximum(arrays.factor_norms[far] * arrays.factor_norms[row], np.float32(1e-12))
    cosines = (arrays.factors[far] @ arrays.factors[row]) / norms
    order = np.argsort(-cosines, kind="stable")
    return np.concatenate([near, far[order]]), np.concatenate([weights, cosines[order]]).astype(np.float32)


def _by_categories(key: int, catalogue: Catalogue) -> tuple[Keys, Scores]:
    """For an item that no model knows: by the share of categories in common."""
    bits = catalogue.category_bits
    shared = np.bitwise_count(bits & bits[key]).astype(np.float32)
    shares = shared / np.maximum(np.bitwise_count(bits | bits[key]), 1)
    order = np.argsort(-shares, kind="stable")
    order = order[shares[order] > 0]
    return order.astype(np.int32), shares[order].astype(np.float32)
