"""The whole request, its stages in order: profile, vectorize, gather, drop what is not eligible, score, select, answer.

Only the profile is waited for. Everything after it runs in one go on the event loop's thread, with one model, one state of
the catalogue and scratch arrays of its own: answers do not depend on how many callers there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest, RecommendResponse

from serving import answers, tokens
from serving.answers import Answer
from serving.candidates import Candidates, Lists, Personal, Room, fresh_keys
from serving.eligibility import Eligible
from serving.engine import Engine
from serving.limits import PAGE_SIZE_DEFAULT
from serving.model import LoadedModel
from serving.profile import Ring, ring_of, with_context, with_inline
from serving.ranker import rank, ranks_in_order
from serving.selection import select
from serving.stopwatch import Stopwatch
from vectorizer import vectorize

Keys = NDArray[np.int32]
NO_KEYS: Keys = np.zeros(0, dtype=np.int32)


async def recommend(request: RecommendRequest, engine: Engine, deadline_s: float, watch: Stopwatch) -> Answer:
    """Answers one request, a RecommendResponse; `deadline_s` is in the loop's clock. CallerError for a filter, offset or token that can't be read."""
    shown = _shown_keys(request)
    profile, degradations = await engine.profiles.read(request, deadline_s)
    watch.lap("profile")
    time_s = engine.clock.time_s()
    catalogue, model = engine.catalogue, engine.models.current
    catalogue.expire(time_s)
    ring = with_inline(ring_of(profile), request.recent_events, catalogue, time_s)
    context = catalogue.keys_of(request.context_item_ids)
    eligible = engine.eligibility.of(model, request.filter)
    seen = [] if request.include_seen else [ring.keys, profile.seen_keys]
    blocked = np.concatenate([shown, context, catalogue.keys_of(request.exclude_item_ids), *seen])
    engine.blocked.block(blocked)
    watch.lap("eligibility")
    ring = with_context(ring, context, time_s)
    candidates, scores = _scored(request, engine, model, ring, eligible, blocked, time_s, watch)
    min_score = request.min_score if request.HasField("min_score") else None
    count = page_size(request.page_size)
    places = select(candidates, scores, count, min_score, request.diversity, model, catalogue)
    watch.lap("select")
    degradations += answers.degradations_of(engine, model, len(places) < count)
    answer = _answer(request, engine, model, candidates, scores, places, shown, degradations)
    watch.lap("answer")
    return answer


def page_size(asked: int) -> int:
    """How many items a page has."""
    return asked or PAGE_SIZE_DEFAULT


def personal_of(ring: Ring, model: LoadedModel) -> Personal:
    """Who asks, in the model's terms."""
    rows = model.rows_of(ring.keys)
    vector = vectorize(rows, ring.codes, ring.times, model.arrays, model.workspace)
    return Personal(ring, rows, vector, bool(vector.any()))


def _scored(
    request: RecommendRequest,
    engine: Engine,
    model: LoadedModel | None,
    ring: Ring,
    eligible: Eligible,
    blocked: Keys,
    time_s: float,
    watch: Stopwatch,
) -> tuple[Candidates, NDArray[np.float32]]:
    trending = engine.trending.current
    count = page_size(request.page_size)
    if model is None:
        lists = Lists(trending)
        found = engine.gatherer.gather_without_model(lists, eligible, engine.blocked, count)
        watch.lap("gather")
        return found, ranks_in_order(len(found.keys))
    personal = personal_of(ring, model)
    if personal.found:
        engine.drift.note(personal.vector, model.retriever)
    watch.lap("vectorize")
    own = np.ascontiguousarray(ring.keys[::-1]) if request.include_seen else NO_KEYS
    lists = Lists(trending, own=own, fresh=fresh_keys(eligible, engine.catalogue.created_s, time_s))
    found = engine.gatherer.gather(model, personal, lists, Room(), eligible, blocked, engine.blocked, count)
    watch.lap("gather")
    scores = rank(found, personal, model, trending, time_s)
    watch.lap("score")
    return found, scores


def _shown_keys(request: RecommendRequest) -> Keys:
    return tokens.read_page_token(request.page_token, _fingerprint(request))


def _fingerprint(request: RecommendRequest) -> int:
    return tokens.fingerprint_of(request.user_id, request.session_id, request.surface, request.filter)


def _answer(
    request: RecommendRequest,
    engine: Engine,
    model: LoadedModel | None,
    candidates: Candidates,
    scores: NDArray[np.float32],
    places: NDArray[np.int64],
    shown: Keys,
    degradations: list[Degradation.ValueType],
) -> Answer:
    full = len(places) == page_size(request.page_size)
    keys = candidates.keys[places]
    next_page_token = (
        tokens.make_page_token(np.concatenate([shown, keys]), _fingerprint(request)) if full else ""
    )
    items = answers.encoded_recommendations(engine.catalogue, keys, scores[places], candidates.bits[places])
    rest = RecommendResponse(
        next_page_token=next_page_token,
        model_version=model.version if model else "",
        attribution_token=answers.attribution_token(engine, model),
        degradations=degradations,
    )
    return Answer(items + rest.SerializeToString(), degradations)
