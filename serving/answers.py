"""What every kind of answer is put together from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Degradation, Source

from runtime.metrics import ANSWER_DEGRADED_TOTAL, ANSWER_ITEMS_TOTAL
from serving.candidates import SOURCE_OF_BITS
from serving.catalogue import Catalogue
from serving.encoding import encoded_items
from serving.engine import Engine
from serving.model import LoadedModel
from serving.tokens import make_attribution_token

ANSWER_ID_BYTES = 16

# Looked up once: labels() takes a microsecond, and an answer has many items.
_COUNT_ITEMS: dict[int, Callable[[float], None]] = {
    source: ANSWER_ITEMS_TOTAL.labels(name.removeprefix("SOURCE_").lower()).inc
    for name, source in Source.items()
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it goes out."""

    body: bytes  # a serialized response
    degradations: list[Degradation.ValueType]  # that it says


def encoded_recommendations(
    catalogue: Catalogue,
    keys: NDArray[np.int32],
    scores: NDArray[np.float32],
    bits: NDArray[np.uint8],
    propensities: NDArray[np.float64] | None = None,
) -> bytes:
    """The items of an answer in order, from parallel arrays (c,), as serialized `items`."""
    sources = SOURCE_OF_BITS[bits]
    for source, count in enumerate(np.bincount(sources).tolist()):
        if count:
            _COUNT_ITEMS[source](count)
    return encoded_items(catalogue.joined_ids_of(keys), scores, sources, propensities)


def degradations_of(
    engine: Engine,
    model: LoadedModel | None,
    short: bool,
    already: Collection[Degradation.ValueType] = (),
) -> list[Degradation.ValueType]:
    """What an answer with this model had to do without, the profile left out, and what is said `already`."""
    found = []
    if model is None:
        found.append(Degradation.DEGRADATION_MODEL_MISSING)
    elif not model.arrays.has_ranker:
        found.append(Degradation.DEGRADATION_RANKER_SKIPPED)
    if short:
        found.append(Degradation.DEGRADATION_SHORT)
    if engine.follower.is_stale:
        found.append(Degradation.DEGRADATION_CATALOG_STALE)
    return [degradation for degradation in found if degradation not in already]


def count_degradations(degradations: Iterable[Degradation.ValueType]) -> None:
    """Into the metrics."""
    for degradation in degradations:
        name = Degradation.Name(degradation).removeprefix("DEGRADATION_").lower()
        ANSWER_DEGRADED_TOTAL.labels(name).inc()


def attribution_token(engine: Engine, model: LoadedModel | None, answer_id: bytes = b"") -> str:
    """A token of its own for one answer; of this id, if there is one already."""
    version = model.version if model else ""
    answer_id = answer_id or engine.random_bytes(ANSWER_ID_BYTES)
    return make_attribution_token(answer_id, engine.clock.time_s(), version)
