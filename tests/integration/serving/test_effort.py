"""Short of time, an answer leaves out what the table of efforts says, and says so."""

from __future__ import annotations

import pytest
from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest, Source

from runtime.errors import DeadlineError
from serving import service
from serving.effort import WAYS, Effort
from tests.integration.serving.conftest import Client, World

SKIPPED = Degradation.DEGRADATION_RANKER_SKIPPED


class Hurried:
    """A pace that always says the same."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort

    def effort_for(self, left_s: float) -> Effort:
        return self._effort

    def note(self, effort: Effort, took_s: float) -> None:
        assert effort is self._effort


@pytest.mark.parametrize("effort", Effort)
async def test_recommend_with_an_effort_answers_a_whole_page_and_says_what_was_left_out(
    modelled: World, effort: Effort
) -> None:
    await modelled.see("u:u1", list(await modelled.keys())[:4])
    async with modelled.serve() as client:
        object.__setattr__(client.serving.engine, "pace", Hurried(effort))
        answer = await client.ranking.Recommend(RecommendRequest(user_id="u1", page_size=10, diversity=0.5))
    assert len({item.item_id for item in answer.items}) == 10
    assert not {"i0", "i1", "i2", "i3"} & {item.item_id for item in answer.items}
    said = set(answer.degradations) - {SKIPPED}  # the model of this world has no ranker
    undiverse = set() if WAYS[effort].is_diverse else {Degradation.DEGRADATION_DIVERSITY_SKIPPED}
    assert said == set(WAYS[effort].degradations) - {SKIPPED} | undiverse
    assert len(answer.degradations) == len(set(answer.degradations))
    personal = Source.SOURCE_PERSONAL in {item.source for item in answer.items}
    assert personal == (effort is not Effort.POPULAR)


async def test_recommend_when_a_filter_holds_keeps_it_at_every_effort(modelled: World) -> None:
    await modelled.see("u:u1", list(await modelled.keys())[:4])
    request = RecommendRequest(user_id="u1", page_size=5, filter="year >= 2010")
    async with modelled.serve() as client:
        for effort in Effort:
            object.__setattr__(client.serving.engine, "pace", Hurried(effort))
            answer = await client.ranking.Recommend(request)
            assert [int(item.item_id[1:]) >= 30 for item in answer.items] == [True] * 5


class Late:
    """The context of a call whose time is over."""

    def time_remaining(self) -> float:
        return 0.0


async def test_call_when_its_time_is_over_is_refused_before_any_work(client: Client) -> None:
    edge = service.RankingService(client.serving.engine)
    with pytest.raises(DeadlineError, match="time was over"):
        await edge.Recommend(RecommendRequest(filter="not a filter"), Late())  # type: ignore[arg-type]  # all that is asked of it
