"""A new item's words put it before those who like such items, before it has any event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest, SimilarItemsRequest, Source

from runtime.postgres import open_pool
from serving.learner import _EVENTS
from tests.integration.serving.conftest import GENRES, ITEM_COUNT, Client, World, insert_items
from tests.integration.serving.models import make_model
from training.publish import publish
from vectorizer.content import ContentModel, hashes_of

FAN_OF = "War"


def content_of(factors: np.ndarray, liked: np.ndarray) -> ContentModel:
    """Of three words: one that is worth the liked direction, two that are worth its opposite."""
    words = np.array([hashes_of([genre], [])[0] for genre in GENRES], dtype=np.uint64)
    vectors = np.stack([liked if genre == FAN_OF else -liked for genre in GENRES]).astype(np.float32)
    order = np.argsort(words)
    d = factors.shape[1]
    return ContentModel(words[order], vectors[order], np.zeros(d, np.float32), np.eye(d, dtype=np.float32))


@pytest.fixture
async def client(stocked: World) -> AsyncIterator[Client]:
    """A served world whose model has content vectors and knows all items but the newest six; ann has touched five."""
    keys = await stocked.keys()
    model = make_model(keys[:-6])
    liked = 3 * model.factors[:5].sum(axis=0)
    async with open_pool(stocked.settings.postgres_url) as pool:
        metrics = {"vectorizer_ndcg_at_10": 0.5}
        content = content_of(model.factors, liked)
        await publish(
            stocked.settings, pool, model.to_arrays(), model.params, metrics, 100, "", content=content
        )
    await stocked.see("u:ann", keys[:5])
    await stocked.sql(
        "update items set create_time = to_timestamp(0)"
    )  # no news: nothing comes by the source NEW
    async with stocked.serve() as client:
        yield client


def new_of(genre: str) -> set[str]:
    return {f"i{i}" for i in range(ITEM_COUNT - 6, ITEM_COUNT) if GENRES[i % 3] == genre}


async def test_recommend_puts_new_items_of_a_liked_kind_first_and_none_of_others(client: Client) -> None:
    answer = await client.ranking.Recommend(RecommendRequest(user_id="ann", page_size=10))
    first = answer.items[:3]  # as high as the best that the model knows, behind it
    assert new_of(FAN_OF) < {item.item_id for item in first}
    assert {item.source for item in first} == {Source.SOURCE_PERSONAL}
    others = new_of(GENRES[0]) | new_of(GENRES[1])
    assert not others & {item.item_id for item in answer.items}


async def test_recommend_to_nobody_in_particular_does_not_know_new_items(client: Client) -> None:
    answer = await client.ranking.Recommend(RecommendRequest(page_size=10))
    assert not new_of(FAN_OF) & {item.item_id for item in answer.items}


async def test_upsert_of_a_liked_kind_is_followed_and_a_deleted_one_is_gone(
    client: Client, stocked: World
) -> None:
    await insert_items(stocked, count=3, first=ITEM_COUNT + 2)  # i62 is of the liked kind
    await stocked.sql("update items set create_time = to_timestamp(0)")
    await client.serving.engine.follower.follow()
    await client.serving.engine.live.follow()
    request = RecommendRequest(user_id="ann", page_size=10)
    assert "i62" in {item.item_id for item in (await client.ranking.Recommend(request)).items[:3]}

    await stocked.sql("update items set deleted = true, changed_xid = pg_current_xact_id() where id = 'i62'")
    await client.serving.engine.follower.follow()
    assert "i62" not in {item.item_id for item in (await client.ranking.Recommend(request)).items}


async def test_similar_to_a_new_item_lies_in_its_direction(client: Client) -> None:
    new = min(new_of(FAN_OF))
    engine = client.serving.engine
    model, table = engine.models.current, engine.live.of(engine.models.current)
    assert model is not None
    assert table is not None
    key = engine.catalogue.key_of(new)
    assert key is not None
    vector = table.vector_of(key)
    assert vector is not None
    answer = await client.ranking.SimilarItems(SimilarItemsRequest(item_id=new, page_size=5))
    arrays = model.arrays
    cosines = (arrays.factors @ vector) / (arrays.factor_norms * np.linalg.norm(vector))
    best = engine.catalogue.ids_of(arrays.item_keys[np.argsort(-cosines)[:5]])
    assert [item.item_id for item in answer.items] == best


async def test_events_of_others_bring_a_new_item_before_their_like(client: Client, stocked: World) -> None:
    """i54 is of a kind that ann's words speak against; those who like what she likes touch it."""
    engine = client.serving.engine
    request = RecommendRequest(user_id="ann", page_size=5)
    assert "i54" not in {item.item_id for item in (await client.ranking.Recommend(request)).items}
    keys = await stocked.keys()
    for number in range(30):
        await stocked.see(f"u:fan{number}", keys[:5])
        await stocked.sql(
            """insert into events (event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, event_time,
            accept_time, attribution_token, surface) values (%s, %s, '', '', %s, 'i54', 6, '', now(), now(), '', '')""",
            f"e{number}", f"u:fan{number}", int(keys[54]),
        )  # fmt: skip
    assert engine.learner is not None
    assert await engine.learner.look() == 1
    assert "i54" in {item.item_id for item in (await client.ranking.Recommend(request)).items}
    assert await engine.learner.look() == 0  # nothing more was said

    again = await stocked.sql(
        "update items set title = 'another', changed_xid = pg_current_xact_id() where id = 'i54' returning key"
    )
    assert again == [(int(keys[54]),)]
    await engine.follower.follow()
    await engine.live.follow()
    assert "i54" in {item.item_id for item in (await client.ranking.Recommend(request)).items}


async def test_learner_s_question_locks_the_partitions_of_its_days_alone(stocked: World) -> None:
    for number in range(40):
        day = date(2001, 1, 1) + timedelta(number)
        await stocked.sql(
            f"create table events_{day:%Y%m%d} partition of events for values from ('{day}') to ('{day + timedelta(1)}')"
        )
    asked = {"since_s": datetime(2001, 2, 1, 12, tzinfo=UTC).timestamp(), "keys": [1], "count_max": 10}
    async with open_pool(stocked.settings.postgres_url) as pool, pool.connection() as connection:
        for _ in range(10):  # the driver prepares what comes again
            await connection.execute(_EVENTS, asked, prepare=False)
        query = "select array_agg(distinct relation::regclass::text) from pg_locks where relation::regclass::text ~ 'events_2001'"
        [[locked]] = await (await connection.execute(query)).fetchall()

    days = {name[:15] for name in locked}
    assert days == {f"events_{date(2001, 1, 31) + timedelta(n):%Y%m%d}" for n in range(10)}


async def test_learner_when_postgres_fails_learns_with_the_next_look(client: Client, stocked: World) -> None:
    learner = client.serving.engine.learner
    assert learner is not None
    await stocked.sql("alter table events rename to elsewhere")
    assert await learner.look() == 0
    await stocked.sql("alter table elsewhere rename to events")
    keys = await stocked.keys()
    await stocked.see("u:fan", keys[:5])
    await stocked.sql(
        """insert into events (event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, event_time,
        accept_time, attribution_token, surface) values ('e', 'u:fan', '', '', %s, 'i54', 1, '', now(), now(), '', '')""",
        int(keys[54]),
    )
    assert await learner.look() == 1


async def test_swap_to_a_model_that_knows_them_lets_the_table_go(client: Client, stocked: World) -> None:
    old = client.serving.engine.models.current
    await stocked.publish(make_model(await stocked.keys(), 2), ndcg=0.9)
    await client.serving.engine.models.follow()
    assert client.serving.engine.live.of(old) is None
    assert (
        client.serving.engine.live.of(client.serving.engine.models.current) is None
    )  # it has no content vectors
