"""A surface's rules through the real server: what is answered, what is written after it, and what Explain says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.rpc import code_pb2
from reco.ranking.v1.ranking_service_pb2 import (
    Boost,
    Degradation,
    ExplainRequest,
    RecommendRequest,
    RecommendResponse,
    Source,
    Stage,
)

from runtime.clock import ManualClock
from runtime.settings import SettingsError
from serving import exploration
from serving.served import SERVED_COUNT_MAX, decode, served_key
from serving.server import running
from tests.integration.serving.conftest import NOW_S, Client, World, connected

FILE = """
[surfaces.shop]
page_size = 10
[[surfaces.shop.pins]]
name = "campaign"
item = "i50"
place = 2
[[surfaces.shop.promotions]]
name = "evens"
filter = 'tags:"even"'
share = 0.3

[surfaces.once]
page_size = 5
served = { window_s = 3600, count = 12 }

[surfaces.tired]
page_size = 3
rotation = { rate = 1.0, time_s = 100 }

[surfaces.curious]
page_size = 4
exploration = 0.5

[surfaces.capped]
page_size = 10
max_per_category = 2
filter = "year >= 1990"
"""


@asynccontextmanager
async def served(
    world: World, folder: Path, content: str = FILE
) -> AsyncIterator[tuple[Client, ManualClock]]:
    path = folder / "surfaces.toml"
    path.write_text(content)
    settings = world.settings.model_copy(update={"surfaces_file": path})
    clock = ManualClock(NOW_S)
    async with running(settings, clock) as serving, connected(serving) as client:
        yield client, clock


def ids(answer: RecommendResponse) -> list[str]:
    return [item.item_id for item in answer.items]


async def test_recommend_when_a_surface_pins_and_promotes_answers_so(modelled: World, tmp_path: Path) -> None:
    async with served(modelled, tmp_path) as (client, _):
        first = await client.ranking.Recommend(RecommendRequest(surface="shop", user_id="u"))
        request = RecommendRequest(surface="shop", user_id="u", page_token=first.next_page_token)
        second = await client.ranking.Recommend(request)
        plain = await client.ranking.Recommend(RecommendRequest(user_id="u"))
    assert ids(first)[1] == "i50"
    assert first.items[1].source == Source.SOURCE_PROMOTED
    assert len(ids(first)) == len(ids(second)) == 10
    assert not set(ids(first)) & set(ids(second))
    free = [each for each in ids(first) + ids(second) if each != "i50"]
    assert sum(int(each[1:]) % 2 == 0 for each in free) == round(0.3 * len(free))
    assert first.surfaces_version == plain.surfaces_version != ""
    assert len(plain.items) == 20


async def test_recommend_when_served_lately_leaves_it_out_until_the_window_ends(
    modelled: World, tmp_path: Path
) -> None:
    request = RecommendRequest(surface="once", user_id="u")
    async with served(modelled, tmp_path) as (client, clock):
        engine = client.serving.engine
        assert engine.outbox is not None
        pages = []
        for _ in range(3):
            pages.append(ids(await client.ranking.Recommend(request)))
            await engine.outbox.flush()
            clock.advance(10)
        ring = decode(await modelled.redis.get(served_key("u:u")))
        assert engine.catalogue.ids_of(ring.keys) == [each for page in pages for each in page]
        assert ring.times.tolist() == [NOW_S] * 5 + [NOW_S + 10] * 5 + [NOW_S + 20] * 5
        assert 3_000 < await modelled.redis.ttl(served_key("u:u")) <= 3_600
        assert len({each for page in pages for each in page}) == 15
        # The last twelve are left out, the first three come back.
        assert ids(await client.ranking.Recommend(request))[:3] == pages[0][:3]
        clock.advance(4_000)
        assert ids(await client.ranking.Recommend(request)) == pages[0]
        other = await client.ranking.Recommend(RecommendRequest(surface="once", user_id="v"))
        assert ids(other) == pages[0]


async def test_served_ring_when_written_often_keeps_the_newest(modelled: World, tmp_path: Path) -> None:
    async with served(modelled, tmp_path) as (client, _):
        outbox = client.serving.engine.outbox
        assert outbox is not None
        keys = await modelled.keys()
        for n in range(12):
            outbox.served("u:u", keys, NOW_S + n, 60)
        assert await outbox.flush() == 12
        ring = decode(await modelled.redis.get(served_key("u:u")))
    assert len(ring.keys) == SERVED_COUNT_MAX
    assert ring.keys.tolist() == (keys.tolist() * 12)[-SERVED_COUNT_MAX:]


async def test_recommend_when_rotating_lowers_what_was_served_and_lets_it_come_back(
    modelled: World, tmp_path: Path
) -> None:
    request = RecommendRequest(surface="tired", user_id="u")
    async with served(modelled, tmp_path) as (client, clock):
        assert client.serving.engine.outbox is not None
        first = ids(await client.ranking.Recommend(request))
        await client.serving.engine.outbox.flush()
        second = ids(await client.ranking.Recommend(request))
        clock.advance(2_000)
        assert ids(await client.ranking.Recommend(request)) == first
    assert not set(first) & set(second)


async def test_recommend_when_redis_does_not_tell_what_was_served_says_so(
    modelled: World, tmp_path: Path
) -> None:
    dead = World(modelled.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"}), modelled.redis)
    async with served(dead, tmp_path) as (client, _):
        answer = await client.ranking.Recommend(RecommendRequest(surface="once", user_id="u"))
        assert client.serving.engine.outbox is not None
        assert await client.serving.engine.outbox.flush() == 0
    assert len(answer.items) == 5
    assert Degradation.DEGRADATION_SERVED_UNKNOWN in answer.degradations


async def test_recommend_when_exploring_says_and_logs_propensities(modelled: World, tmp_path: Path) -> None:
    async with served(modelled, tmp_path) as (client, _):
        request = RecommendRequest(surface="curious", user_id="u")
        answers = [await client.ranking.Recommend(request) for _ in range(5)]
        assert client.serving.engine.outbox is not None
        await client.serving.engine.outbox.flush()
        entries = await modelled.redis.xrange(exploration.DECISIONS_KEY)
        logged = [exploration.decode(entry[b"d"]) for _, entry in entries]
        keyed = [client.serving.engine.catalogue.ids_of(each["keys"]) for each in logged]
    assert keyed == [ids(answer) for answer in answers]
    for entry, answer in zip(logged, answers, strict=True):
        assert entry["propensities"] == pytest.approx([item.propensity for item in answer.items])
        assert all(0 < item.propensity <= 1 for item in answer.items)
        assert (entry["subject"], entry["surface"]) == ("u:u", "curious")
        assert entry["surfaces_version"] == answer.surfaces_version
    assert len({tuple(page) for page in keyed}) > 1


async def test_explain_when_given_the_attribution_token_draws_as_the_answer_did(
    modelled: World, tmp_path: Path
) -> None:
    request = RecommendRequest(surface="curious", user_id="u")
    async with served(modelled, tmp_path) as (client, _):
        for _ in range(5):
            answer = await client.ranking.Recommend(request)
            asked = ExplainRequest(
                request=request, item_ids=ids(answer), attribution_token=answer.attribution_token
            )
            told = await client.ranking.Explain(asked)
            assert [each.position for each in told.explanations] == [1, 2, 3, 4]
        undrawn = await client.ranking.Explain(ExplainRequest(request=request, item_ids=["i0", "i1"]))
    assert [each.position for each in undrawn.explanations] == [1, 2]
    assert not any(each.rules for each in undrawn.explanations)


async def test_explain_when_rules_moved_items_names_them(modelled: World, tmp_path: Path) -> None:
    request = RecommendRequest(surface="shop", user_id="u", boosts=[Boost(filter="year = 2019", weight=1)])
    async with served(modelled, tmp_path) as (client, _):
        answer = await client.ranking.Recommend(request)
        told = (
            await client.ranking.Explain(ExplainRequest(request=request, item_ids=ids(answer)))
        ).explanations
        capped = RecommendRequest(surface="capped")
        few = await client.ranking.Recommend(capped)
        full = await client.ranking.Explain(ExplainRequest(request=capped, item_ids=["i59", "i3"]))
    rules = {each.item_id: [(rule.kind, rule.name) for rule in each.rules] for each in told}
    assert rules["i50"] == [("pin", "campaign")]
    assert ids(answer)[0] == "i39"
    assert rules["i39"] == [("boost", "request")]
    assert {("promotion", "evens")} <= {rule for each in rules.values() for rule in each}
    assert len(few.items) == 6  # two of each of three genres
    assert few.next_page_token
    assert [each.stage for each in full.explanations] == [Stage.STAGE_CATEGORY_FULL, Stage.STAGE_FILTERED]


async def test_recommend_when_a_boost_can_not_be_read_is_refused(client: Client) -> None:
    with pytest.raises(Exception, match="position") as caught:
        await client.ranking.Recommend(RecommendRequest(boosts=[Boost(filter="year >", weight=1)]))
    assert caught.value.code().value[0] == code_pb2.INVALID_ARGUMENT  # type: ignore[attr-defined]  # an AioRpcError


async def test_serving_when_the_file_is_wrong_does_not_start(modelled: World, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="page_size: it is 0"):
        async with served(modelled, tmp_path, "[default]\npage_size = 0"):
            pass


async def test_recommend_when_the_file_changes_answers_by_the_new_one(
    modelled: World, tmp_path: Path
) -> None:
    async with served(modelled, tmp_path) as (client, _):
        request = RecommendRequest(surface="tired")
        before = await client.ranking.Recommend(request)
        (tmp_path / "surfaces.toml").write_text("[default]\npage_size = 8")
        await client.serving.engine.surfaces.look()
        after = await client.ranking.Recommend(request)
    assert (len(before.items), len(after.items)) == (3, 8)
    assert before.surfaces_version != after.surfaces_version
