"""The whole request, its stages in order: profile, eligibility, vectorize, gather, score, select, answer.

Only the profile is waited for, and a filter that is new. Everything after it runs in one go on the event loop's thread, with
one model, one state of the catalogue and scratch arrays of its own: answers do not depend on how many callers there are.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Degradation, FilterReport, RecommendRequest, RecommendResponse

from profiles.codec import Profile
from profiles.subjects import subject_of
from serving import answers, limits, tokens
from serving.answers import Answer
from serving.candidates import NO_PRODUCTS, Candidates, Lists, Personal, fresh_keys
from serving.decision import Blocked, Decision, Scored, Scores
from serving.effort import WAYS, Budget, Effort
from serving.eligible import Eligible
from serving.engine import Engine
from serving.exploration import Draw
from serving.live_items import LiveTable
from serving.model import LoadedModel
from serving.profile import Ring, ring_of, with_context, with_inline
from serving.promotions import pinned_keys, promoted_keys
from serving.ranker import in_order_of_retrieval, rank, ranks_in_order
from serving.rules import Rules
from serving.selection import SelectionContext, seed_of, select
from serving.served import NOTHING as NOTHING_SERVED
from serving.served import ServedRing, served_key
from serving.served import decode as decode_served
from serving.stopwatch import Stopwatch
from vectorizer import vectorize

Keys = NDArray[np.int32]
NO_KEYS: Keys = np.zeros(0, dtype=np.int32)


async def recommend(request: RecommendRequest, engine: Engine, budget: Budget, watch: Stopwatch) -> Answer:
    """Answers one request, a RecommendResponse. CallerError for a filter, offset or token that can't be read."""
    decision = await decide(request, engine, budget, watch, engine.random_bytes(answers.ANSWER_ID_BYTES))
    answer = answer_of(decision, engine)
    remember(decision, engine)
    watch.lap("answer")
    return answer


async def decide(
    request: RecommendRequest, engine: Engine, budget: Budget, watch: Stopwatch, answer_id: bytes
) -> Decision:
    """Every stage but the answer. What is drawn is drawn by the answer's id; nothing is, where that is empty."""
    rules = engine.surfaces.rules_of(request)
    shown = _shown_keys(request)
    profile, served, degradations = await _stored(request, rules, engine, budget)
    watch.lap("profile")
    await engine.eligibility.prepare(rules.eligible_filters, budget.wait_s(), engine.models.current)
    if rules.boosts:
        await engine.eligibility.prepare_bitmaps(rules.boost_filters, budget.wait_s())
    # From here on nothing is waited for.
    start_s = time.monotonic()
    effort = engine.pace.effort_for(budget.deadline_s - start_s)
    time_s = engine.clock.time_s()
    catalogue, model = engine.catalogue, engine.models.current
    catalogue.expire(time_s)
    eligible = engine.eligibility.of(model, rules.filter)
    ring = with_inline(ring_of(profile), request.recent_events, catalogue, time_s)
    blocked = _blocked(request, rules, engine, ring, profile, shown, served, time_s)
    engine.blocked.block(blocked.keys)
    watch.lap("eligibility")
    ring = with_context(ring, blocked.context, time_s)
    scored = _scored(rules, engine, model, effort, ring, eligible, blocked.keys, time_s, watch)
    rules, left_out = _affordable(rules, effort, answer_id)
    context = SelectionContext(
        engine.catalogue, model, engine.eligibility.bitmaps, served, time_s, len(shown), seed_of(answer_id)
    )
    selected = select(scored.candidates, scored.scores, rules, context)
    watch.lap("select")
    degradations += [*_of_effort(effort, model), *left_out]
    is_short = len(selected.places) < rules.page_size
    degradations += answers.degradations_of(engine, model, is_short, degradations)
    engine.pace.note(effort, time.monotonic() - start_s)
    return Decision(
        request, rules, answer_id, time_s, model, effort, eligible, blocked, scored, selected, degradations
    )


async def _stored(
    request: RecommendRequest, rules: Rules, engine: Engine, budget: Budget
) -> tuple[Profile, ServedRing, list[Degradation.ValueType]]:
    if not rules.needs_served:
        profile, degradations = await engine.profiles.read(request, budget.wait_until_s)
        return profile, NOTHING_SERVED, degradations
    reading = engine.profiles.read_beside(request, budget.wait_until_s, served_key)
    profile, value, degradations = await reading
    return profile, decode_served(value), degradations


def personal_of(ring: Ring, model: LoadedModel) -> Personal:
    """Who asks, in the model's terms."""
    rows = model.rows_of(ring.keys)
    vector = vectorize(rows, ring.codes, ring.times, model.arrays, model.workspace)
    return Personal(ring, rows, vector, bool(vector.any()))


def _blocked(
    request: RecommendRequest,
    rules: Rules,
    engine: Engine,
    ring: Ring,
    profile: Profile,
    shown: Keys,
    served: ServedRing,
    time_s: float,
) -> Blocked:
    seen = NO_KEYS if rules.include_seen else np.concatenate([ring.keys, profile.seen_keys])
    keys_of, lately = engine.catalogue.keys_of, NO_KEYS
    if rules.served is not None:
        lately = served.within(rules.served.window_s, rules.served.count, time_s)
    context, excluded = keys_of(request.context_item_ids), keys_of(request.exclude_item_ids)
    return Blocked(shown, context, excluded, seen, lately).without(pinned_keys(rules, engine.catalogue))


def _affordable(
    rules: Rules, effort: Effort, answer_id: bytes
) -> tuple[Rules, tuple[Degradation.ValueType, ...]]:
    """The rules without what there is no time for, and without drawing where there is nothing to draw by."""
    if rules.exploration and not answer_id:
        rules = replace(rules, exploration=0.0)
    if not rules.diversity or WAYS[effort].is_diverse:
        return rules, ()
    return replace(rules, diversity=0.0), (Degradation.DEGRADATION_DIVERSITY_SKIPPED,)


def _of_effort(effort: Effort, model: LoadedModel | None) -> tuple[Degradation.ValueType, ...]:
    return () if model is None else WAYS[effort].degradations


def _scored(
    rules: Rules,
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
    count, room = rules.candidate_count, way.room.within(rules.quotas)
    promoted = promoted_keys(rules, engine.catalogue, engine.eligibility, model, eligible, engine.blocked)
    if model is None:
        lists = Lists(trending, promoted=promoted)
        found = engine.gatherer.gather_without_model(lists, eligible, engine.blocked, count)
        watch.lap("gather")
        return Scored(found, ranks_in_order(len(found.keys)), lists)
    personal = personal_of(ring, model)
    if personal.found:
        engine.drift.note(personal.vector, model.retriever)
    watch.lap("vectorize")
    own = np.ascontiguousarray(ring.keys[::-1]) if rules.include_seen else NO_KEYS
    live = engine.live.of(model) if personal.found and way.room.retrieval_width > 0 else None
    lists = Lists(
        trending,
        NO_KEYS if live is None else live.nearest(personal.vector, limits.LIVE_COUNT_MAX, eligible.mask),
        own,
        promoted,
        fresh_keys(eligible, engine.catalogue.created_s, time_s),
    )
    found = engine.gatherer.gather(model, personal, lists, room, eligible, blocked, engine.blocked, count)
    found = found.within(rules.quotas, count)
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


def _shown_keys(request: RecommendRequest) -> Keys:
    return tokens.read_page_token(request.page_token, _fingerprint(request))


def _fingerprint(request: RecommendRequest) -> int:
    return tokens.fingerprint_of(request.user_id, request.session_id, request.surface, request.filter)


def answer_of(decision: Decision, engine: Engine) -> Answer:
    """The answer that a decision makes: a RecommendResponse."""
    scored, places, model = decision.scored, decision.places, decision.model
    keys = scored.candidates.keys[places]
    bits = scored.candidates.bits[places]
    selected = decision.selected
    items = answers.encoded_recommendations(
        engine.catalogue, keys, selected.scores[places], bits, selected.propensities
    )
    rest = RecommendResponse(
        next_page_token=_next_page_token(decision, keys),
        model_version=model.version if model else "",
        attribution_token=answers.attribution_token(engine, model, decision.answer_id),
        degradations=decision.degradations,
        filter_report=filter_report(decision.eligible),
        surfaces_version=decision.rules.version,
    )
    return Answer(items + rest.SerializeToString(), decision.degradations)


def remember(decision: Decision, engine: Engine) -> None:
    """What is to be known later of an answer goes to the outbox: what was served, if the surface looks at that, and what was drawn."""
    rules, outbox, request = decision.rules, engine.outbox, decision.request
    if outbox is None or not (rules.needs_served or rules.exploration):
        return
    named = request.user_id or request.session_id
    subject = subject_of(request.user_id, request.session_id) if named else ""
    keys = decision.scored.candidates.keys[decision.places]
    if rules.needs_served and subject:
        outbox.served(subject, keys, decision.time_s, rules.served_ttl_s)
    if rules.exploration and decision.selected.propensities is not None:
        outbox.decided(
            Draw(
                answer_id=decision.answer_id,
                subject=subject,
                surface=request.surface,
                surfaces_version=rules.version,
                model_version=decision.model.version if decision.model else "",
                time_s=decision.time_s,
                exploration=rules.exploration,
                candidate_count=len(decision.scored.candidates.keys),
                shown_count=len(decision.blocked.shown),
                keys=keys,
                scores=decision.selected.scores[decision.places],
                propensities=decision.selected.propensities,
            )
        )


def filter_report(eligible: Eligible) -> FilterReport:
    """What the answer says of its filter."""
    mode, count, recall = eligible.report
    return FilterReport(mode=mode, passing_count=count, estimated_recall=recall)


def _next_page_token(decision: Decision, keys: Keys) -> str:
    if decision.selected.is_last:
        return ""
    return tokens.make_page_token(
        np.concatenate([decision.blocked.shown, keys]), _fingerprint(decision.request)
    )
