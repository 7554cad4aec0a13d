"""Recommend over real gRPC and real stores: who gets what."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc
import numpy as np
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from reco.ingest.v1.event_pb2 import EventType
from reco.ranking.v1.ranking_service_pb2 import (
    Degradation,
    InlineEvent,
    RankItemsRequest,
    RecommendRequest,
    SimilarItemsRequest,
    Source,
)

from profiles import trending
from profiles.offsets import make_token
from profiles.subjects import partition_of
from serving import limits
from serving.stopwatch import STAGES
from serving.tokens import read_attribution_token
from tests.integration.serving.conftest import GENRES, ITEM_COUNT, Client, World, insert_items
from tests.integration.serving.models import make_model

CALLERS = 64
PATIENCE_S = 60.0
ROUNDED_MS = 0.0005 * 8  # seven stages and a total, told to the microsecond


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


async def refusal(call: Any) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    status.details[0].Unpack(info)
    return caught.value.code(), info


async def test_recommend_when_user_is_unknown_answers_popular_items(client: Client) -> None:
    answer = await client.ranking.Recommend(RecommendRequest(user_id="nobody", page_size=5))
    assert ids(answer) == ["i0", "i1", "i2", "i3", "i4"]
    assert {item.source for item in answer.items} == {Source.SOURCE_POPULAR}
    assert not answer.degradations
    attribution = read_attribution_token(answer.attribution_token)
    assert attribution is not None
    assert attribution.model_version == answer.model_version != ""


async def test_recommend_when_something_trends_shows_it_to_the_unknown_user(
    client: Client, modelled: World
) -> None:
    now_s = client.serving.engine.clock.time_s()
    key = int((await modelled.keys())[50])
    await trending.add(modelled.redis, trending.counts([(now_s, 2, key)] * 5, now_s))
    assert await client.serving.engine.trending.refresh()
    answer = await client.ranking.Recommend(RecommendRequest(page_size=3))
    assert ids(answer) == ["i50", "i0", "i1"]
    assert answer.items[0].source == Source.SOURCE_TRENDING


async def test_recommend_when_items_were_seen_leaves_them_out(client: Client, modelled: World) -> None:
    keys = await modelled.keys()
    await modelled.see("u:ann", keys[:10])
    answer = await client.ranking.Recommend(RecommendRequest(user_id="ann", page_size=50))
    assert len(answer.items) == 50
    assert not set(ids(answer)) & {f"i{i}" for i in range(10)}
    assert Source.SOURCE_PERSONAL in {item.source for item in answer.items}


async def test_recommend_when_seen_items_left_the_ring_still_leaves_them_out(
    client: Client, stocked: World
) -> None:
    keys = await stocked.keys()
    await stocked.see("u:old", keys[:5])
    await stocked.see("u:old", np.repeat(keys[5:6], 70), offset=2)  # newer events push the ring on
    answer = await client.ranking.Recommend(RecommendRequest(user_id="old", page_size=200))
    assert sorted(ids(answer)) == sorted(f"i{i}" for i in range(6, ITEM_COUNT))
    assert Degradation.DEGRADATION_SHORT in answer.degradations


async def test_recommend_when_seen_is_included_answers_all_items(client: Client, modelled: World) -> None:
    await modelled.see("u:bob", (await modelled.keys())[:10])
    answer = await client.ranking.Recommend(RecommendRequest(user_id="bob", page_size=200, include_seen=True))
    assert sorted(ids(answer)) == sorted(f"i{i}" for i in range(ITEM_COUNT))


async def test_recommend_when_events_are_inline_answers_as_for_the_stored_ones(
    client: Client, modelled: World
) -> None:
    keys = await modelled.keys()
    await modelled.see("s:visitor", keys[:3])
    stored = await client.ranking.Recommend(RecommendRequest(session_id="visitor", page_size=10))
    events = [InlineEvent(item_id=f"i{i}", type=EventType.EVENT_TYPE_CLICK) for i in range(3)]
    inline = await client.ranking.Recommend(
        RecommendRequest(recent_events=[*events, InlineEvent(item_id="unknown")], page_size=10)
    )
    popular = await client.ranking.Recommend(RecommendRequest(page_size=10))
    assert set(ids(inline)) == set(ids(stored)) != set(ids(popular))


async def test_recommend_when_context_is_given_answers_items_like_it_and_not_itself(client: Client) -> None:
    answer = await client.ranking.Recommend(RecommendRequest(context_item_ids=["i9", "nope"], page_size=200))
    assert "i9" not in ids(answer)
    assert Source.SOURCE_SIMILAR in {item.source for item in answer.items} or Source.SOURCE_PERSONAL in {
        item.source for item in answer.items
    }


async def test_recommend_when_items_are_excluded_never_answers_them(client: Client) -> None:
    answer = await client.ranking.Recommend(
        RecommendRequest(exclude_item_ids=["i0", "i2", "unknown"], page_size=3)
    )
    assert ids(answer) == ["i1", "i3", "i4"]


async def test_recommend_when_filtered_answers_only_what_passes(client: Client) -> None:
    request = RecommendRequest(filter='categories:"Comedy" AND year >= 2000', page_size=200)
    answer = await client.ranking.Recommend(request)
    assert sorted(ids(answer)) == sorted(f"i{i}" for i in range(20, ITEM_COUNT) if i % 3 == 0)


async def test_recommend_when_filter_is_wrong_names_the_position(client: Client) -> None:
    code, info = await refusal(client.ranking.Recommend(RecommendRequest(filter="year >=")))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert (info.reason, info.metadata["position"]) == ("FILTER_INVALID", "7")


async def test_recommend_when_min_score_is_set_answers_nothing_below(client: Client, modelled: World) -> None:
    await modelled.see("u:min", (await modelled.keys())[:5])
    whole = await client.ranking.Recommend(RecommendRequest(user_id="min", page_size=40))
    bound = whole.items[9].score
    some = await client.ranking.Recommend(RecommendRequest(user_id="min", page_size=40, min_score=bound))
    assert ids(some) == [item.item_id for item in whole.items if item.score >= bound]
    assert Degradation.DEGRADATION_SHORT in some.degradations


async def test_recommend_when_diversity_grows_the_answer_gets_less_alike(
    client: Client, modelled: World
) -> None:
    await modelled.see("u:div", (await modelled.keys())[:5])
    model = client.serving.engine.models.current
    assert model is not None
    unit = model.arrays.factors / model.arrays.factor_norms[:, None]

    async def likeness(diversity: float) -> float:
        request = RecommendRequest(user_id="div", page_size=8, diversity=diversity)
        rows = [int(item.item_id[1:]) for item in (await client.ranking.Recommend(request)).items]
        return float(np.maximum(unit[rows] @ unit[rows].T, 0).mean())

    assert await likeness(0) > await likeness(0.5) >= await likeness(1)


async def test_recommend_when_paged_never_repeats_and_ends(client: Client, modelled: World) -> None:
    await modelled.see("u:page", (await modelled.keys())[:4])
    shown: list[str] = []
    token = ""
    for _ in range(ITEM_COUNT):
        request = RecommendRequest(user_id="page", page_size=3, page_token=token)
        answer = await client.ranking.Recommend(request)
        shown += ids(answer)
        token = answer.next_page_token
        if not token:
            break
    assert sorted(shown) == sorted(f"i{i}" for i in range(4, ITEM_COUNT))


async def test_recommend_when_paged_while_the_catalogue_changes_never_repeats(
    client: Client, modelled: World
) -> None:
    shown: list[str] = []
    token = ""
    for page in range(25):
        answer = await client.ranking.Recommend(
            RecommendRequest(user_id="live", page_size=2, page_token=token)
        )
        shown += ids(answer)
        token = answer.next_page_token
        if not token:
            break
        change = "available = not available, changed_xid = pg_current_xact_id()"
        await modelled.sql(f"update items set {change} where id in ('i{59 - page}', 'i{page * 7 % 60}')")
        await insert_items(modelled, 1, 100 + page)
        assert await client.serving.engine.follower.follow()
    assert len(shown) == len(set(shown)) == 50


async def test_recommend_when_page_token_is_of_another_request_is_refused(client: Client) -> None:
    first = await client.ranking.Recommend(RecommendRequest(user_id="a", page_size=3))
    other = RecommendRequest(user_id="b", page_size=3, page_token=first.next_page_token)
    code, info = await refusal(client.ranking.Recommend(other))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_recommend_when_offset_is_not_there_yet_says_stale(client: Client, modelled: World) -> None:
    await modelled.see("u:off", (await modelled.keys())[:2], offset=5 << 16)
    partition = partition_of("u:off", modelled.settings.partition_count)
    there = RecommendRequest(user_id="off", minimum_offset=make_token({partition: 5 << 16}))
    assert not (await client.ranking.Recommend(there)).degradations
    ahead = RecommendRequest(user_id="off", minimum_offset=make_token({partition: 6 << 16}))
    assert (await client.ranking.Recommend(ahead)).degradations == [Degradation.DEGRADATION_PROFILE_STALE]


async def test_recommend_when_offset_arrives_meanwhile_counts_it(client: Client, modelled: World) -> None:
    keys = await modelled.keys()
    partition = partition_of("u:wait", modelled.settings.partition_count)
    request = RecommendRequest(user_id="wait", page_size=200, minimum_offset=make_token({partition: 7 << 16}))
    asked = client.ranking.Recommend(request)
    await modelled.see("u:wait", keys[:1], offset=7 << 16)
    answer = await asked
    assert Degradation.DEGRADATION_PROFILE_STALE not in answer.degradations
    assert "i0" not in ids(answer)


@pytest.mark.parametrize("user_id", ["a", ""])
async def test_recommend_when_offset_is_rubbish_is_refused(client: Client, user_id: str) -> None:
    request = RecommendRequest(user_id=user_id, minimum_offset="x")
    code, info = await refusal(client.ranking.Recommend(request))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OFFSET_INVALID")


async def test_recommend_when_profile_is_damaged_answers_without_it(client: Client, modelled: World) -> None:
    await modelled.redis.set("reco:{u:bad}:p", b"rubbish")
    answer = await client.ranking.Recommend(RecommendRequest(user_id="bad"))
    assert len(answer.items) == 20
    assert answer.degradations == [Degradation.DEGRADATION_PROFILE_UNAVAILABLE]


async def test_recommend_when_model_is_missing_answers_the_newest(stocked: World) -> None:
    async with stocked.serve() as client:
        answer = await client.ranking.Recommend(RecommendRequest(user_id="ann", page_size=3))
    assert ids(answer) == ["i59", "i58", "i57"]
    assert {item.source for item in answer.items} == {Source.SOURCE_NEW}
    assert answer.degradations == [Degradation.DEGRADATION_MODEL_MISSING]
    assert answer.model_version == ""


async def test_recommend_when_there_are_no_items_answers_an_empty_page(world: World) -> None:
    async with world.serve() as client:
        answer = await client.ranking.Recommend(RecommendRequest(user_id="ann"))
    assert not answer.items
    assert Degradation.DEGRADATION_SHORT in answer.degradations


async def test_recommend_when_model_has_no_ranker_says_so(stocked: World) -> None:
    keys = await stocked.keys()
    await stocked.publish(make_model(keys, ranked=False))
    await stocked.see("u:ann", keys[:5])
    async with stocked.serve() as client:
        answer = await client.ranking.Recommend(RecommendRequest(user_id="ann"))
    assert answer.degradations == [Degradation.DEGRADATION_RANKER_SKIPPED]
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)


async def test_recommend_when_item_is_new_changed_or_deleted_follows(client: Client, modelled: World) -> None:
    await modelled.sql(
        """insert into items (id, title, categories, tags, numeric_attributes, string_attributes, create_time, available,
        media_url) values ('fresh', 'Fresh', '{Comedy}', '{}', '{}', '{}', now(), true, '')"""
    )
    await modelled.sql("update items set deleted = true, changed_xid = pg_current_xact_id() where id = 'i0'")
    await modelled.sql(
        "update items set available = false, changed_xid = pg_current_xact_id() where id = 'i1'"
    )
    assert await client.serving.engine.follower.follow()
    answer = await client.ranking.Recommend(RecommendRequest(page_size=20))
    assert {"i0", "i1"}.isdisjoint(ids(answer))
    assert next(item for item in answer.items if item.item_id == "fresh").source == Source.SOURCE_NEW


async def test_recommend_when_transaction_commits_late_is_not_missed(client: Client, modelled: World) -> None:
    async with await psycopg.AsyncConnection.connect(modelled.settings.postgres_url) as slow:
        await slow.execute(
            "update items set deleted = true, changed_xid = pg_current_xact_id() where id = 'i3'"
        )
        await modelled.sql(
            "update items set deleted = true, changed_xid = pg_current_xact_id() where id = 'i4'"
        )
        assert await client.serving.engine.follower.follow()
        assert client.serving.engine.catalogue.key_of("i3") is not None
        await slow.commit()
    assert await client.serving.engine.follower.follow()
    assert client.serving.engine.catalogue.key_of("i3") is None
    assert client.serving.engine.catalogue.key_of("i4") is None


async def test_answers_at_64_callers_are_those_at_one(
    client: Client, modelled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is asked is whether answers mix, not whether this machine is fast: nothing is given up for being slow.
    monkeypatch.setattr(limits, "PROFILE_MS_MAX", 1000 * PATIENCE_S)
    recommend = partial(client.ranking.Recommend, timeout=PATIENCE_S)
    keys = await modelled.keys()
    for user in range(16):
        await modelled.see(f"u:c{user}", keys[user : user + 6])
    requests = [
        RecommendRequest(
            user_id=f"c{i % 16}", page_size=10, diversity=(i % 3) / 4, filter=f"year > {1970 + i % 7}"
        )
        for i in range(4 * CALLERS)
    ]
    alone = [await recommend(request) for request in requests]
    together: list[Any] = []
    for at in range(0, len(requests), CALLERS):
        together += await asyncio.gather(*map(recommend, requests[at : at + CALLERS]))
    for one, many in zip(alone, together, strict=True):
        assert one.items == many.items
        assert not many.degradations


async def test_answer_tells_its_seven_stages_and_a_total_that_holds_them(client: Client) -> None:
    call = client.ranking.Recommend(RecommendRequest(user_id="ann"))
    await call
    stages = durations(dict(await call.trailing_metadata()))
    total_ms = stages.pop("total")
    assert tuple(stages) == STAGES
    assert len(STAGES) == 7
    assert all(ms >= 0 for ms in stages.values())
    assert total_ms >= sum(stages.values()) - ROUNDED_MS


@pytest.mark.parametrize("filter_text", ["year >", "(" * 40])
async def test_refusal_tells_its_total(client: Client, filter_text: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await client.ranking.Recommend(RecommendRequest(filter=filter_text))
    assert list(durations(dict(raised.value.trailing_metadata() or ()))) == ["total"]


def durations(metadata: dict[str, Any]) -> dict[str, float]:
    """Milliseconds by stage, from what came with an answer."""
    entries = [entry.split(";dur=") for entry in metadata["server-timing"].split(", ")]
    return {name: float(ms) for name, ms in entries}


async def test_rank_items_orders_known_once_and_lists_unknown(client: Client, modelled: World) -> None:
    keys = await modelled.keys()
    await modelled.see("u:r", keys[:5])
    request = RankItemsRequest(user_id="r", item_ids=["i0", "x", "i7", "i9", "i7", "y"])
    answer = await client.ranking.RankItems(request)
    assert sorted(ids(answer)) == ["i0", "i7", "i9"]
    assert answer.unknown_item_ids == ["x", "y"]
    assert {item.source for item in answer.items} == {Source.SOURCE_CALLER}
    whole = await client.ranking.Recommend(RecommendRequest(user_id="r", page_size=200, include_seen=True))
    order = [i for i in ids(whole) if i in {"i0", "i7", "i9"}]
    assert ids(answer) == order


async def test_rank_items_when_model_is_missing_keeps_the_callers_order(stocked: World) -> None:
    async with stocked.serve() as client:
        answer = await client.ranking.RankItems(RankItemsRequest(item_ids=["i5", "i2", "i9"]))
    assert ids(answer) == ["i5", "i2", "i9"]
    assert answer.degradations == [Degradation.DEGRADATION_MODEL_MISSING]


async def test_similar_items_are_its_neighbours_without_itself(client: Client) -> None:
    model = client.serving.engine.models.current
    assert model is not None
    answer = await client.ranking.SimilarItems(SimilarItemsRequest(item_id="i4", page_size=5))
    catalogue = client.serving.engine.catalogue
    row = model.rows_of(catalogue.keys_of(["i4"]))[0]
    near = model.arrays.item_keys[model.arrays.neighbours[row, :5]]
    assert ids(answer) == [catalogue.id_of(int(key)) for key in near]
    assert not answer.degradations


async def test_similar_items_when_filtered_and_excluded_still_fills_the_page(client: Client) -> None:
    request = SimilarItemsRequest(item_id="i4", page_size=5, filter="categories:War", exclude_item_ids=["i2"])
    answer = await client.ranking.SimilarItems(request)
    assert len(answer.items) == 5
    assert all(GENRES[int(i[1:]) % 3] == "War" for i in ids(answer))
    assert {"i2", "i4"}.isdisjoint(ids(answer))


async def test_similar_items_when_item_is_unknown_is_not_found(client: Client) -> None:
    code, info = await refusal(client.ranking.SimilarItems(SimilarItemsRequest(item_id="nope")))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "ITEM_UNKNOWN")
    assert info.metadata["item_id"] == "nope"


async def test_similar_items_when_no_model_knows_it_shares_categories(stocked: World) -> None:
    async with stocked.serve() as client:
        answer = await client.ranking.SimilarItems(SimilarItemsRequest(item_id="i4", page_size=5))
    assert len(answer.items) == 5
    assert all(int(i[1:]) % 3 == 1 for i in ids(answer))
