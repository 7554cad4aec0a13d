"""The caller's own candidates, in order for a user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import RankItemsRequest, RankItemsResponse, Source

from runtime.begun import Begun
from serving import answers
from serving.answers import Answer
from serving.candidates import Candidates, Personal
from serving.encoding import encoded_items
from serving.engine import Engine
from serving.model import LoadedModel
from serving.profile import Ring, ring_of, with_inline
from serving.ranker import rank, trending_shares
from serving.stopwatch import Stopwatch
from vectorizer import prepare, vectorize


async def rank_items(
    request: RankItemsRequest, engine: Engine, deadline_s: float, watch: Stopwatch
) -> Answer:
    """A RankItemsResponse: ranks all known candidates once each; `deadline_s` is in the loop's clock. CallerError OFFSET_INVALID."""
    reading = Begun(engine.profiles.read(request, deadline_s))
    # While the profile is on its way.
    catalogue = engine.catalogue
    item_ids = list(dict.fromkeys(request.item_ids))
    found, revision = catalogue.find(item_ids), catalogue.revision
    watch.lap("eligibility")
    profile, degradations = await reading
    if catalogue.revision != revision:
        found = catalogue.find(item_ids)
    watch.lap("profile")
    time_s = engine.clock.time_s()
    model = engine.models.current
    ring = with_inline(ring_of(profile), request.recent_events, catalogue, time_s)
    keys = found[found >= 0]
    scores = _scores(keys, ring, engine, model, time_s, watch)
    watch.lap("score")
    order = np.argsort(-scores, kind="stable")
    degradations += answers.degradations_of(engine, model, False)
    sources = np.full(len(keys), Source.SOURCE_CALLER, dtype=np.uint8)
    items = encoded_items(catalogue.joined_ids_of(keys[order]), scores[order], sources)
    rest = RankItemsResponse(
        unknown_item_ids=[item_ids[i] for i in np.flatnonzero(found < 0).tolist()],
        model_version=model.version if model else "",
        attribution_token=answers.attribution_token(engine, model),
        degradations=degradations,
    )
    body = items + rest.SerializeToString()
    watch.lap("answer")
    return Answer(body, degradations)


def _scores(
    keys: NDArray[np.int32],
    ring: Ring,
    engine: Engine,
    model: LoadedModel | None,
    time_s: float,
    watch: Stopwatch,
) -> NDArray[np.float32]:
    trending = engine.trending.current
    if model is None:
        return trending_shares(keys, trending)
    rows = model.rows_of(ring.keys)
    vector = vectorize(rows, ring.codes, ring.times, model.arrays, model.workspace)
    watch.lap("vectorize")
    prepare(rows, ring.codes, model.arrays, model.workspace)
    watch.lap("gather")
    candidates = Candidates(keys, model.rows_of(keys), np.zeros(len(keys), dtype=np.uint8))
    return rank(candidates, Personal(ring, rows, vector, bool(vector.any())), model, trending, time_s)
