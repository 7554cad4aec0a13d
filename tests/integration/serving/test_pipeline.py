"""What one request leaves behind for the next: nothing but a catalogue that knows the time."""

from __future__ import annotations

import pytest
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest, RecommendResponse

from runtime.clock import ManualClock
from serving import pipeline
from serving.effort import Budget
from serving.server import running
from serving.stopwatch import Stopwatch
from tests.integration.serving.conftest import NOW_S, Client, World, connected

FAR_S = 60.0
EVERYTHING = RecommendRequest(page_size=3)
EXCLUDING = RecommendRequest(page_size=3, exclude_item_ids=["i0"], context_item_ids=["i1"])


async def answered(request: RecommendRequest, client: Client) -> list[str]:
    """Ids of the answer, asked of the pipeline itself: an error comes as it was raised."""
    made = await pipeline.recommend(request, client.serving.engine, Budget.of(FAR_S), Stopwatch())
    answer = RecommendResponse.FromString(made.body)
    return [item.item_id for item in answer.items]


async def test_recommend_when_items_were_excluded_before_answers_them_again(client: Client) -> None:
    before = await answered(EVERYTHING, client)
    assert not {"i0", "i1"} & set(await answered(EXCLUDING, client))

    assert await answered(EVERYTHING, client) == before == ["i0", "i1", "i2"]


async def test_recommend_when_the_request_before_failed_answers_what_that_one_excluded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no ranks")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "rank", failing)
        with pytest.raises(RuntimeError, match="no ranks"):
            await answered(EXCLUDING, client)

    assert await answered(EVERYTHING, client) == ["i0", "i1", "i2"]


async def test_recommend_when_an_item_expires_leaves_it_out_of_the_next_answer(modelled: World) -> None:
    await modelled.sql("update items set expire_time = to_timestamp(%s) where id = 'i1'", NOW_S + 100)
    clock = ManualClock(NOW_S)
    async with running(modelled.settings, clock) as serving, connected(serving) as client:
        clock.advance(99)
        before = await answered(EVERYTHING, client)
        clock.advance(1)
        after = await answered(EVERYTHING, client)

    assert (before, after) == (["i0", "i1", "i2"], ["i0", "i2", "i3"])
