"""Items that come and go through the real ingest, as two serving processes answer: at once, whatever Redis does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1.ingest_service_pb2 import DeleteItemsRequest, UpsertItemsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from reco.ingest.v1.item_pb2 import Availability, Item
from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest

from ingest.server import add_service, make_service
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.rpc import start_server
from serving import limits
from tests.integration.serving.conftest import ITEM_COUNT, Client, World
from tests.integration.serving.test_recommend import ids
from tests.integration.serving.test_stores_away import Stores, fragile, kill, stores, until

__all__ = ["fragile", "stores"]  # fixtures

VISIBLE_S_MAX = 30.0  # generous: it is for the bench to say how soon
CHURN_ROUNDS, CHURN_COUNT = 40, 25
LONG_AGO = Timestamp(seconds=1_000)


@dataclass(frozen=True)
class Shop:
    """An ingest and the serving processes that follow it."""

    ingest: IngestServiceStub
    clients: list[Client]

    async def upsert(self, *items: Item) -> None:
        await self.ingest.UpsertItems(UpsertItemsRequest(items=items))

    async def delete(self, *item_ids: str) -> None:
        await self.ingest.DeleteItems(DeleteItemsRequest(item_ids=item_ids))

    async def answers(self, **options: object) -> list[list[str]]:
        """Each process's page for a user whose profile is read, and for one who is nobody."""
        requests = [RecommendRequest(page_size=200, user_id=user, **options) for user in ("ann", "")]  # type: ignore[arg-type]
        calls = [client.ranking.Recommend(request) for client in self.clients for request in requests]
        return [ids(answer) for answer in await asyncio.gather(*calls)]

    async def shows(self, item_id: str) -> bool:
        return all(item_id in answer for answer in await self.answers(filter='tags:"new"'))

    async def lacks(self, item_id: str) -> bool:
        return not any(item_id in answer for answer in await self.answers())


@asynccontextmanager
async def shop_of(world: World) -> AsyncIterator[Shop]:
    settings = world.settings
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(settings.redis_url))
        pool = await stack.enter_async_context(open_pool(settings.postgres_url))
        server, _, port = await start_server("127.0.0.1:0", add_service(make_service(settings, redis, pool)))
        stack.push_async_callback(server.stop, None)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        clients = [await stack.enter_async_context(world.serve()) for _ in range(2)]
        yield Shop(IngestServiceStub(channel), clients)


@pytest.fixture
async def shop(modelled: World) -> AsyncIterator[Shop]:
    async with shop_of(modelled) as shop:
        yield shop


def new(item_id: str, **fields: object) -> Item:
    return Item(id=item_id, title=item_id, categories=["Drama"], tags=["new"], **fields)  # type: ignore[arg-type]


async def test_deleted_items_are_gone_from_the_very_next_answer_of_each_process(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        await shop.delete(f"i{i}")
        for answer in await shop.answers():
            assert f"i{i}" not in answer
            assert f"i{i + 1}" in answer


async def test_unavailable_and_expired_items_are_gone_from_the_very_next_answer(shop: Shop) -> None:
    for i in range(0, 20, 2):
        unavailable = Item(id=f"i{i}", availability=Availability.AVAILABILITY_UNAVAILABLE)
        await shop.upsert(unavailable, Item(id=f"i{i + 1}", expire_time=LONG_AGO))
        for answer in await shop.answers():
            assert {f"i{i}", f"i{i + 1}"}.isdisjoint(answer)
            assert f"i{i + 2}" in answer


async def test_upserted_items_are_recommended_without_waiting_for_the_next_turn(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CATALOG_PERIOD_S", 10 * VISIBLE_S_MAX)  # only what is told counts
    followers = [client.serving.engine.follower for client in shop.clients]
    for follower in followers:
        follower.wake()  # the process's own turn is over, too, and its next one has the period of above
    await asyncio.gather(*(follower.follow_next() for follower in followers))
    for i in range(5):
        await shop.upsert(new(f"new-{i}"))
        async with asyncio.timeout(VISIBLE_S_MAX):
            while not await shop.shows(f"new-{i}"):  # noqa: ASYNC110 - they look by themselves
                await asyncio.sleep(0.005)


async def test_item_that_comes_back_is_recommended_again(shop: Shop) -> None:
    for _ in range(5):
        await shop.upsert(new("comes-and-goes"))
        await until(lambda: shop.shows("comes-and-goes"))
        await shop.delete("comes-and-goes")
        assert not any("comes-and-goes" in answer for answer in await shop.answers())


async def test_items_coming_and_going_under_load_fail_no_call_and_leave_no_page_short(shop: Shop) -> None:
    stop = asyncio.Event()
    asked = 0

    async def ask(client: Client, user: str) -> None:
        nonlocal asked
        while not stop.is_set():
            answer = await client.ranking.Recommend(RecommendRequest(user_id=user, page_size=20))
            assert len(answer.items) == 20
            assert Degradation.DEGRADATION_SHORT not in answer.degradations
            asked += 1

    callers = [asyncio.create_task(ask(client, user)) for client in shop.clients for user in ("ann", "")]
    for turn in range(CHURN_ROUNDS):
        names = [f"{turn}-{i}" for i in range(CHURN_COUNT)]
        await shop.upsert(*(new(name) for name in names))
        await shop.delete(*names[5:])
    stop.set()
    await asyncio.gather(*callers)
    assert asked >= CHURN_ROUNDS
    kept = {f"{turn}-{i}" for turn in range(CHURN_ROUNDS) for i in range(5)}
    await until(lambda: shop.shows(f"{CHURN_ROUNDS - 1}-4"))
    for client in shop.clients:
        view = client.serving.engine.catalogue
        assert view.usable_count == ITEM_COUNT + len(kept)
        assert len(view.keys_of(kept)) == len(kept)


async def test_items_when_redis_is_away_come_and_go_all_the_same(fragile: World, stores: Stores) -> None:
    async with shop_of(fragile) as shop:
        kill(stores.valkey)
        try:
            await shop.upsert(new("while-away"))
            await shop.delete("i3")
            await until(lambda: shop.shows("while-away"))
            await until(lambda: shop.lacks("i3"))
        finally:
            stores.valkey.start()
        for client in shop.clients:
            await until(lambda client=client: knows_redis(client))
        await shop.delete("i4")
        for answer in await shop.answers():
            assert "i4" not in answer


async def lacks(shop: Shop, item_id: str) -> bool:
    return not any(item_id in answer for answer in await shop.answers())


async def knows_redis(client: Client) -> bool:
    answer = await client.ranking.Recommend(RecommendRequest(user_id="ann"))
    return Degradation.DEGRADATION_PROFILE_UNAVAILABLE not in answer.degradations
