"""Why an item is in the answer to a request, or at which stage it fell out and by how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import ExplainRequest, ExplainResponse, Explanation, Source, Stage

from serving import tokens
from serving.answers import Answer
from serving.candidates import sources_of
from serving.catalogue import Catalogue
from serving.decision import Decision
from serving.effort import WAYS, Budget
from serving.engine import Engine
from serving.pipeline import decide, filter_report
from serving.rules import BY_TURNS
from serving.stopwatch import Stopwatch
from vectorizer.features import FEATURES
from vectorizer.request import features
from vectorizer.sources import PERSONAL

SUMMARIES: Final = {
    Stage.STAGE_UNKNOWN: "it was never upserted",
    Stage.STAGE_DELETED: "it was deleted",
    Stage.STAGE_UNAVAILABLE: "it is marked as unavailable",
    Stage.STAGE_EXPIRED: "its expire_time has passed",
    Stage.STAGE_FILTERED: "the filter does not hold for it",
    Stage.STAGE_PAGED: "it stood on an earlier page",
    Stage.STAGE_EXCLUDED: "the request excludes it, or names it as context",
    Stage.STAGE_SEEN: "the user has touched it already",
    Stage.STAGE_SERVED: "it was served to this user so lately that the surface leaves it out",
}
_NO_PLACE = -1


async def explain(request: ExplainRequest, engine: Engine, budget: Budget) -> Answer:
    """Decides the request again and explains its items: an ExplainResponse. CallerError as `recommend`."""
    drawn = tokens.read_attribution_token(request.attribution_token)
    answer_id = drawn.answer_id if drawn else b""
    decision = await decide(request.request, engine, budget, Stopwatch(), answer_id)
    # Nothing is waited for from here on: the workspace and the eligible items are still this request's.
    asked = Explainer(decision, engine.catalogue)
    response = ExplainResponse(
        explanations=[asked.explain(item_id) for item_id in request.item_ids],
        model_version=decision.model.version if decision.model else "",
        degradations=decision.degradations,
        filter_report=filter_report(decision.eligible),
        surfaces_version=decision.rules.version,
    )
    return Answer(response.SerializeToString(), decision.degradations)


class Explainer:
    """Asks one decision. For use before the next await."""

    def __init__(self, decision: Decision, catalogue: Catalogue) -> None:
        self._decision, self._catalogue = decision, catalogue
        self._place_of = {int(key): at for at, key in enumerate(decision.scored.candidates.keys)}
        self._position_of = {int(place): at for at, place in enumerate(decision.places, 1)}
        self._features = _features_of(decision)

    def explain(self, item_id: str) -> Explanation:
        """One item."""
        found = Explanation(item_id=item_id)
        key = self._catalogue.any_key_of(item_id)
        place = self._place_of.get(key, _NO_PLACE)
        if place == _NO_PLACE:
            found.stage, found.margin = self._before_candidates(key)
        else:
            self._tell_candidate(found, place)
        found.summary = _summary(found)
        return found

    def _tell_candidate(self, found: Explanation, place: int) -> None:
        scored = self._decision.scored
        found.sources.extend(sources_of(int(scored.candidates.bits[place])))
        found.model_score = float(scored.scores[place])
        found.score = float(self._decision.selected.scores[place])
        found.rules.extend(self._decision.selected.applied.of(place))
        found.features.update(self._features.get(place, {}))
        found.position = self._position_of.get(place, 0)
        if found.position:
            found.stage = Stage.STAGE_ANSWERED
            return
        rules, selected = self._decision.rules, self._decision.selected
        least = -np.inf if rules.min_score is None else rules.min_score
        judged = found.model_score if rules.merging == BY_TURNS else found.score
        if judged < least:
            found.stage, found.margin = Stage.STAGE_BELOW_MIN_SCORE, least - judged
            return
        if selected.applied.is_category_full(place):
            found.stage, found.margin = Stage.STAGE_CATEGORY_FULL, 1.0
            return
        found.stage = Stage.STAGE_OUTRANKED
        answered = selected.scores[self._decision.places]
        found.margin = max(0.0, float(answered.min(initial=np.inf)) - found.score) if len(answered) else 0.0

    def _before_candidates(self, key: int) -> tuple[Stage.ValueType, float]:
        standing = self._catalogue.standing_of(key)
        if standing is not None:
            return standing, 0.0
        if not self._decision.eligible.mask[key]:
            return Stage.STAGE_FILTERED, 0.0
        blocked = self._decision.blocked
        for stage, keys in (
            (Stage.STAGE_PAGED, blocked.shown),
            (Stage.STAGE_EXCLUDED, blocked.excluded),
            (Stage.STAGE_EXCLUDED, blocked.context),
            (Stage.STAGE_SEEN, blocked.seen),
            (Stage.STAGE_SERVED, blocked.served),
        ):
            if key in keys:
                return stage, 0.0
        return self._not_gathered(key)

    def _not_gathered(self, key: int) -> tuple[Stage.ValueType, float]:
        """Named by a source without room for it, or named by none."""
        decision = self._decision
        retrieved = decision.scored.candidates.retrieved
        model, personal = decision.model, decision.scored.personal
        row = int(model.rows_of(np.array([key], dtype=np.int32))[0]) if model else -1
        at = np.flatnonzero(retrieved == row) if row >= 0 else retrieved[:0]
        if len(at):
            return Stage.STAGE_CROWDED_OUT, float(at[0] + 1 - self._taken_of(PERSONAL))
        for keys, room in self._lists():
            at = np.flatnonzero(keys == key)
            if len(at):
                return Stage.STAGE_CROWDED_OUT, float(max(1, at[0] + 1 - room))
        if model is None or personal is None or row < 0:
            return Stage.STAGE_NOT_RETRIEVED, 0.0
        if not personal.found:
            shares = model.arrays.popularity
            popular = decision.scored.candidates.rows
            least = shares[popular[popular >= 0]].min(initial=np.inf)
            return Stage.STAGE_NOT_RETRIEVED, max(0.0, float(least - shares[row]))
        products = model.arrays.factors[retrieved] @ personal.vector
        last = float(products.min(initial=np.inf)) if len(products) else 0.0
        return Stage.STAGE_NOT_RETRIEVED, max(0.0, last - float(model.arrays.factors[row] @ personal.vector))

    def _taken_of(self, bit: int) -> int:
        return int(np.count_nonzero(self._decision.scored.candidates.bits & bit))

    def _lists(self) -> list[tuple[NDArray[np.int32], int]]:
        lists, room = (
            self._decision.scored.lists,
            WAYS[self._decision.effort].room.within(self._decision.rules.quotas),
        )
        return [(lists.trending.keys, room.trending), (lists.fresh, room.new)]


def _features_of(decision: Decision) -> dict[int, dict[str, float]]:
    """By place of the candidates: what the ranker looked at. Empty where there was no ranker."""
    model, scored = decision.model, decision.scored
    if model is None or scored.personal is None or not scored.personal.found:
        return {}
    if not model.arrays.has_ranker or not WAYS[decision.effort].is_ranked:
        return {}
    known = np.flatnonzero(scored.candidates.rows >= 0)
    who, ring = scored.personal, scored.personal.ring
    rows = scored.candidates.rows[known]
    now = int(decision.time_s)
    matrix = features(rows, who.rows, ring.codes, ring.times, now, who.vector, model.arrays, model.workspace)
    columns = matrix.T.tolist()
    return {
        int(place): dict(zip(FEATURES, column, strict=True))
        for place, column in zip(known, columns, strict=True)
    }


def _summary(found: Explanation) -> str:
    words: dict[int, Callable[[], str]] = {
        Stage.STAGE_ANSWERED: lambda: (
            f"place {found.position}, named by {_names(found)}, score {found.score:.4g}"
        ),
        Stage.STAGE_NOT_RETRIEVED: lambda: (
            f"no source named it: {found.margin:.4g} short of the last that was retrieved"
        ),
        Stage.STAGE_CROWDED_OUT: lambda: f"a source named it {found.margin:.0f} places beyond its room",
        Stage.STAGE_CATEGORY_FULL: lambda: (
            f"named by {_names(found)}, but the page has enough of one of its categories"
        ),
        Stage.STAGE_BELOW_MIN_SCORE: lambda: f"its score is {found.margin:.4g} below the least",
        Stage.STAGE_OUTRANKED: lambda: (
            f"named by {_names(found)}, but its score is {found.margin:.4g} short of the answer's last"
        ),
    }
    return words[found.stage]() if found.stage in words else SUMMARIES[found.stage]


def _names(found: Explanation) -> str:
    names = [Source.Name(source).removeprefix("SOURCE_").lower() for source in found.sources]
    return " and ".join(names) or "the caller"
