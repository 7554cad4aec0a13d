"""Recommend over real gRPC and real stores."""

from __future__ import annotations

from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest, Source

from tests.integration.serving.conftest import Client, World


def ids(answer: object) -> list[str]:
    return [item.item_id for item in answer.items]  # type: ignore[attr-defined]  # any answer with items


async def test_recommend_when_user_is_unknown_answers_popular_items(client: Client) -> None:
    answer = await client.ranking.Recommend(RecommendRequest(user_id="nobody", page_size=5))
    assert ids(answer) == ["i0", "i1", "i2", "i3", "i4"]
    assert {item.source for item in answer.items} == {Source.SOURCE_POPULAR}
    assert not answer.degradations
    assert answer.model_version


async def test_recommend_when_items_were_seen_leaves_them_out(client: Client, modelled: World) -> None:
    keys = await modelled.keys()
    await modelled.see("u:ann", keys[:10])
    answer = await client.ranking.Recommend(RecommendRequest(user_id="ann", page_size=50))
    assert len(answer.items) == 50
    assert not set(ids(answer)) & {f"i{i}" for i in range(10)}
    assert Source.SOURCE_PERSONAL in {item.source for item in answer.items}
    assert Degradation.DEGRADATION_SHORT not in answer.degradations
