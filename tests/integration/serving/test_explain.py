"""Explain agrees with Recommend: who is answered, where and with which score; and each other item's stage is the true one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from reco.ranking.v1.ranking_service_pb2 import ExplainRequest, Explanation, RecommendRequest, Source, Stage

from tests.integration.serving.conftest import ITEM_COUNT, NOW_S, Client, World

IDS = [f"i{n}" for n in range(ITEM_COUNT)]
SEEN = ["i3", "i4", "i8"]
BATCH = 50


@dataclass(frozen=True)
class Case:
    """A request and the stages that items must have, told by hand; the others are candidates, or out of room."""

    request: RecommendRequest
    stages: dict[str, Stage.ValueType] = field(default_factory=dict)


FILTERED = {item_id: Stage.STAGE_FILTERED for item_id in IDS if int(item_id[1:]) < 30}
GONE = {"i10": Stage.STAGE_DELETED, "i11": Stage.STAGE_UNAVAILABLE, "i12": Stage.STAGE_EXPIRED}
TOUCHED = dict.fromkeys(SEEN, Stage.STAGE_SEEN)
EXCLUDED = {"i20": Stage.STAGE_EXCLUDED, "i21": Stage.STAGE_EXCLUDED}
CASES = {
    "plain": Case(RecommendRequest(user_id="u1", page_size=7), GONE | TOUCHED),
    "stranger": Case(RecommendRequest(page_size=7), GONE),
    "filtered": Case(RecommendRequest(user_id="u1", page_size=7, filter="year >= 2010"), FILTERED | GONE),
    "excluding": Case(
        RecommendRequest(user_id="u1", page_size=7, exclude_item_ids=["i20"], context_item_ids=["i21"]),
        GONE | TOUCHED | EXCLUDED,
    ),
    "all": Case(RecommendRequest(user_id="u1", page_size=200, include_seen=True), GONE),
}


@pytest.fixture
async def changed(modelled: World) -> AsyncIterator[Client]:
    """A served world in which one item is deleted, one unavailable, one expired, and u1 has seen three."""
    await modelled.sql("update items set deleted = true where id = 'i10'")
    await modelled.sql("update items set available = false where id = 'i11'")
    await modelled.sql("update items set expire_time = to_timestamp(%s) where id = 'i12'", NOW_S - 10**9)
    keys = dict(await modelled.sql("select id, key from items"))
    await modelled.see("u:u1", [keys[item_id] for item_id in SEEN])
    async with modelled.serve() as client:
        yield client


async def explained(client: Client, request: RecommendRequest, ids: list[str]) -> dict[str, Explanation]:
    found: dict[str, Explanation] = {}
    for start in range(0, len(ids), BATCH):
        asked = ExplainRequest(request=request, item_ids=ids[start : start + BATCH])
        answer = await client.ranking.Explain(asked)
        assert [each.item_id for each in answer.explanations] == asked.item_ids
        found |= {each.item_id: each for each in answer.explanations}
    return found


@pytest.mark.parametrize("name", CASES)
async def test_explain_agrees_with_the_answer_for_every_item(changed: Client, name: str) -> None:
    case = CASES[name]
    answer = await changed.ranking.Recommend(case.request)
    why = await explained(changed, case.request, IDS)

    answered = {item_id: each for item_id, each in why.items() if each.stage == Stage.STAGE_ANSWERED}
    assert sorted(answered, key=lambda item_id: answered[item_id].position) == [
        item.item_id for item in answer.items
    ]
    for item in answer.items:
        assert why[item.item_id].score == item.score
        assert why[item.item_id].sources[0] == item.source
    told = {item_id: why[item_id].stage for item_id in case.stages if item_id not in answered}
    assert told == case.stages
    later = {Stage.STAGE_OUTRANKED, Stage.STAGE_NOT_RETRIEVED, Stage.STAGE_CROWDED_OUT}
    assert {each.stage for i, each in why.items() if i not in case.stages} <= later | {Stage.STAGE_ANSWERED}
    assert all(each.summary for each in why.values())


async def test_explain_an_outranked_item_tells_what_it_lacks_to_the_last(changed: Client) -> None:
    request = CASES["plain"].request
    answer = await changed.ranking.Recommend(request)
    why = await explained(changed, request, IDS)
    outranked = [each for each in why.values() if each.stage == Stage.STAGE_OUTRANKED]
    assert outranked
    for each in outranked:
        assert each.margin == pytest.approx(answer.items[-1].score - each.score)
        assert each.position == 0
        assert each.sources


async def test_explain_an_item_below_the_least_score_tells_by_how_much(changed: Client) -> None:
    request = RecommendRequest(user_id="u1", page_size=200)
    scores = [item.score for item in (await changed.ranking.Recommend(request)).items]
    request.min_score = scores[5]
    why = await explained(changed, request, IDS)
    below = [each for each in why.values() if each.stage == Stage.STAGE_BELOW_MIN_SCORE]
    assert below
    for each in below:
        assert each.margin == pytest.approx(request.min_score - each.score)


async def test_explain_the_second_page_names_the_first_ones_items(changed: Client) -> None:
    first = await changed.ranking.Recommend(RecommendRequest(user_id="u1", page_size=5))
    second = RecommendRequest(user_id="u1", page_size=5, page_token=first.next_page_token)
    why = await explained(changed, second, [item.item_id for item in first.items])
    assert {each.stage for each in why.values()} == {Stage.STAGE_PAGED}


async def test_explain_an_item_that_was_never_upserted_says_unknown(changed: Client) -> None:
    why = await explained(changed, RecommendRequest(), ["nobody"])
    assert (why["nobody"].stage, why["nobody"].summary) == (Stage.STAGE_UNKNOWN, "it was never upserted")


async def test_explain_without_a_model_names_trending_or_new(stocked: World) -> None:
    async with stocked.serve() as client:
        why = await explained(client, RecommendRequest(page_size=5), IDS[:20])
    assert {tuple(each.sources) for each in why.values() if each.position} <= {(Source.SOURCE_NEW,)}
