"""The whole request, its stages in order: profile, eligibility, vectorize, gather, score, select, answer.

Only the profile is waited for, and a filter that is new. Everything after it runs in one go on the event loop's thread, with
one model, one state of the catalogue and scratch arrays of its own: answers do not depend on how many callers there are.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Degradation, FilterReport, RecommendRequest, RecommendResponse

from profiles.codec import Profile
from serving import answers, limits, tokens
from serving.answers import Answer
from serving.candidates import NO_PRODUCTS, Candidates, Lists, Personal, fresh_keys
from serving.decision import Blocked, Decision, Scored, Scores
from serving.effort import WAYS, Budget, Effort
from serving.eligible import Eligible
from serving.engine import Engine
from serving.limits import PAGE_SIZE_DEFAULT
from serving.live_items import LiveTable
from serving.model import LoadedModel
from serving.profile import Ring, ring_of, with_context, with_inline
from serving.ranker import in_order_of_retrieval, rank, ranks_in_order
from serving.selection import select
from serving.stopwatch import Stopwatch
from vectorizer import vectorize

Keys = NDArray[np.int32]
NO_KEYS: Keys = np.zeros(0, dtype=np.int32)


async def recommend(request: RecommendRequest, engine: Engine, budget: Budget, watch: Stopwatch) -> Answer:
    """Answers one request, a RecommendResponse. CallerError for a filter, offset or token that can't be read."""
    decision = await decide(request, engine, budget, watch)
    answer = answer_of(decision, engine)
    watch.lap("answer")
    return answer


async def decide(request: RecommendRequest, engine: Engine, budget: Budget, watch: Stopwatch) -> Decision:
    """Every stage but the answer."""
    shown = _shown_keys(request)
    profile, degradations = await engine.profiles.read(request, budget.wait_until_s)
    watch.lap("profile")
    await engine.eligibility.prepare([request.filter], budget.wait_s(), engine.models.current)
    # From here on nothing is waited for.
    start_s = time.monotonic()
    effort = engine.pace.effort_for(budget.deadline_s - start_s)
    time_s = engine.clock.time_s()
    catalogue, model = engine.catalogue, engine.models.current
    catalogue.expire(time_s)
    eligible = engine.eligibility.of(model, request.filter)
    ring = with_inline(ring_of(profile), request.recent_events, catalogue, time_s)
    blocked = _blocked(request, engine, ring, profile, shown)
    engine.blocked.block(blocked.keys)
    watch.lap("eligibility")
    ring = with_context(ring, blocked.context, time_s)
    scored = _scored(request, engine, model, effort, ring, eligible, blocked.keys, time_s, watch)
    count = page_size(request.page_size)
    places, left_out = _selected(request, scored, count, effort, model, engine)
    watch.lap("select")
    degradations += [*_of_effort(effort, model), *left_out]
    degradations += answers.degradations_of(engine, model, len(places) < count, degradations)
    engine.pace.note(effort, time.monotonic() - start_s)
    return Decision(request, count, time_s, model, effort, eligible, blocked, scored, places, degradations)


def page_size(asked: int) -> int:
    """How many items a page has."""
    return asked or PAGE_SIZE_DEFAULT


def personal_of(ring: Ring, model: LoadedModel) -> Personal:
    """Who asks, in the model's terms."""
    rows = model.rows_of(ring.keys)
    vector = vectorize(rows, ring.codes, ring.times, model.arrays, model.workspace)
    return Personal(ring, rows, vector, bool(vector.any()))


def _blocked(request: RecommendRequest, engine: Engine, ring: Ring, profile: Profile, shown: Keys) -> Blocked:
    seen = NO_KEYS if request.include_seen else np.concatenate([ring.keys, profile.seen_keys])
    keys_of = engine.catalogue.keys_of
    return Blocked(shown, keys_of(request.context_item_ids), keys_of(request.exclude_item_ids), seen)


def _of_effort(effort: Effort, model: LoadedModel | None) -> tuple[Degradation.ValueType, ...]:
    return () if model is None else WAYS[effort].degradations


def _scored(
    request: RecommendRequest,
    engine: Engine,
    model: LoadedModel | None,
    effort: Effort,
    ring: Ring,
    eligible: Eligible,
    blocked: Keys,
    time_s: float,
    watch: Stopwatch,
) -> Scored:
    trending, way = engine.trending.current, WAYS[effort]
    count = page_size(request.page_size)
    if model is None:
        lists = Lists(trending)
        found = engine.gatherer.gather_without_model(lists, eligible, engine.blocked, count)
        watch.lap("gather")
        return Scored(found, ranks_in_order(len(found.keys)), lists)
    personal = personal_of(ring, model)
    if personal.found:
        engine.drift.note(personal.vector, model.retriever)
    watch.lap("vectorize")
    own = np.ascontiguousarray(ring.keys[::-1]) if request.include_seen else NO_KEYS
    live = engine.live.of(model) if personal.found and way.room.retrieval_width > 0 else None
    lists = Lists(
        trending,
        NO_KEYS if live is None else live.nearest(personal.vector, limits.LIVE_COUNT_MAX, eligible.mask),
        own,
        fresh=fresh_keys(eligible, engine.catalogue.created_s, time_s),
    )
    found = engine.gatherer.gather(model, personal, lists, way.room, eligible, blocked, engine.blocked, count)
    products = _products_of(found, live, personal)
    watch.lap("gather")
    if way.is_ranked:
        scores = rank(found, personal, model, trending, time_s, products)
    else:
        scores = in_order_of_retrieval(found, personal, model, products)
    watch.lap("score")
    return Scored(found, scores, lists, personal, products)


def _products_of(found: Candidates, live: LiveTable | None, personal: Personal) -> Scores:
    """(k,) float32 inner products of the candidates that live beside the model, NaN for others; empty where there are none."""
    unknown = np.flatnonzero(found.rows < 0)
    if live is None or not live.size or not len(unknown):
        return NO_PRODUCTS
    products = np.full(len(found.rows), np.nan, dtype=np.float32)
    products[unknown] = live.products_of(found.keys[unknown], personal.vector)
    return products


def _selected(
    request: RecommendRequest,
    scored: Scored,
    count: int,
    effort: Effort,
    model: LoadedModel | None,
    engine: Engine,
) -> tuple[NDArray[np.int64], list[Degradation.ValueType]]:
    min_score = request.min_score if request.HasField("min_score") else None
    diversity, left_out = request.diversity, []
    if diversity > 0 and not WAYS[effort].is_diverse:
        diversity, left_out = 0.0, [Degradation.DEGRADATION_DIVERSITY_SKIPPED]
    places = select(scored.candidates, scored.scores, count, min_score, diversity, model, engine.catalogue)
    return places, left_out


def _shown_keys(request: RecommendRequest) -> Keys:
    return tokens.read_page_token(request.page_token, _fingerprint(request))


def _fingerprint(request: RecommendRequest) -> int:
    return tokens.fingerprint_of(request.user_id, request.session_id, request.surface, request.filter)


def answer_of(decision: Decision, engine: Engine) -> Answer:
    """The answer that a decision makes: a RecommendResponse."""
    scored, places, model = decision.scored, decision.places, decision.model
    keys = scored.candidates.keys[places]
    bits = scored.candidates.bits[places]
    items = answers.encoded_recommendations(engine.catalogue, keys, scored.scores[places], bits)
    rest = RecommendResponse(
        next_page_token=_next_page_token(decision, keys),
        model_version=model.version if model else "",
        attribution_token=answers.attribution_token(engine, model),
        degradations=decision.degradations,
        filter_report=filter_report(decision.eligible),
    )
    return Answer(items + rest.SerializeToString(), decision.degradations)


def filter_report(eligible: Eligible) -> FilterReport:
    """What the answer says of its filter."""
    mode, count, recall = eligible.report
    return FilterReport(mode=mode, passing_count=count, estimated_recall=recall)


def _next_page_token(decision: Decision, keys: Keys) -> str:
    if len(keys) < decision.count:
        return ""
    return tokens.make_page_token(
        np.concatenate([decision.blocked.shown, keys]), _fingerprint(decision.request)
    )
