"""Stores that are killed under serving, and come back: answers go on, say what they lack, and recover by themselves."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from reco.ranking.v1.model_service_pb2 import ListModelsRequest
from reco.ranking.v1.ranking_service_pb2 import Degradation, InlineEvent, RecommendRequest

from runtime.metrics import REGISTRY
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.settings import load_settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from serving import limits
from serving.catalogue_file import MANIFEST, CatalogueFile
from serving.limits import CALL_MS_DEFAULT
from tests.integration.serving.conftest import ITEM_COUNT, NOW_S, REPOSITORY, Client, World, insert_items
from tests.integration.serving.models import make_model
from tests.integration.serving.test_recommend import ids, refusal

RECOVERY_S_MAX = 30.0  # generous: pools back off between tries
POLL_S = 0.05
PAUSE_MS, TIMEOUT_S = 700, 0.5  # of Redis, and of a call


@dataclass(frozen=True)
class Stores:
    """Stores of this module alone, which it may kill."""

    valkey: EmbeddedValkey
    postgres: EmbeddedPostgres


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    folder = Path(tempfile.mkdtemp(prefix="reco-away-"))
    stores = Stores(EmbeddedValkey(folder), EmbeddedPostgres(folder))
    stores.valkey.start()
    stores.postgres.start()
    yield stores
    stores.valkey.stop()
    stores.postgres.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def fragile(stores: Stores, tmp_path: Path) -> AsyncIterator[World]:
    """A world with a model on stores that may be killed."""
    settings = load_settings(
        data_dir=tmp_path, redis_url=stores.valkey.url, postgres_url=stores.postgres.url, ranking_port=0
    )
    async with connect(settings.redis_url) as redis:
        world = World(settings, redis)
        await world.sql("drop schema public cascade")
        await world.sql("create schema public")
        async with open_pool(settings.postgres_url) as pool:
            await migrate(pool, REPOSITORY / "ingest" / "migrations")
        await insert_items(world)
        await world.publish(make_model(await world.keys()))
        yield world


def kill(store: EmbeddedValkey | EmbeddedPostgres) -> None:
    assert store.pid is not None
    os.kill(store.pid, signal.SIGKILL)
    store.stop()  # reaps it


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(RECOVERY_S_MAX):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(POLL_S)


async def until_whole(client: Client, request: RecommendRequest, timeout_s: float | None = None) -> None:
    """Until an answer lacks nothing."""

    async def whole() -> bool:
        return not (await client.ranking.Recommend(request, timeout=timeout_s)).degradations

    await until(whole)


async def test_recommend_when_redis_is_killed_answers_degraded_and_recovers(
    stores: Stores, fragile: World
) -> None:
    keys = await fragile.keys()
    await fragile.see("u:ann", keys[:5])
    request = RecommendRequest(user_id="ann", page_size=10)
    async with fragile.serve() as client:
        before = await client.ranking.Recommend(request)
        kill(stores.valkey)
        away = await client.ranking.Recommend(request, timeout=CALL_MS_DEFAULT / 1000)
        assert away.degradations == [Degradation.DEGRADATION_PROFILE_UNAVAILABLE]
        assert ids(away)[0] == "i0"
        inline = RecommendRequest(user_id="ann", page_size=10, recent_events=[InlineEvent(item_id="i0")])
        assert "i0" not in ids(await client.ranking.Recommend(inline))
        stores.valkey.start()
        await until_whole(client, request)
        assert (await client.ranking.Recommend(request)).items == before.items


async def test_recommend_when_redis_hangs_answers_within_the_deadline(stores: Stores, fragile: World) -> None:
    assert stores.valkey.pid is not None
    async with fragile.serve() as client:
        os.kill(stores.valkey.pid, signal.SIGSTOP)
        try:
            answer = await client.ranking.Recommend(RecommendRequest(user_id="ann"), timeout=1.0)
        finally:
            os.kill(stores.valkey.pid, signal.SIGCONT)
    assert answer.degradations == [Degradation.DEGRADATION_PROFILE_UNAVAILABLE]
    assert len(answer.items) == 20


async def test_recommend_when_redis_is_paused_answers_within_the_deadline_and_recovers_by_itself(
    stores: Stores, fragile: World
) -> None:
    keys = await fragile.keys()
    await fragile.see("u:ann", keys[:5])
    request = RecommendRequest(user_id="ann", page_size=10)
    async with fragile.serve() as client:
        before = await client.ranking.Recommend(request)
        await fragile.redis.execute_command("CLIENT", "PAUSE", PAUSE_MS, "ALL")  # type: ignore[no-untyped-call]
        degraded = await client.ranking.Recommend(request, timeout=TIMEOUT_S)
        assert degraded.degradations == [Degradation.DEGRADATION_PROFILE_UNAVAILABLE]
        await until_whole(client, request, TIMEOUT_S)
        assert (await client.ranking.Recommend(request)).items == before.items


async def test_recommend_when_its_caller_hangs_up_does_nothing_further(
    stores: Stores, fragile: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        limits, "PROFILE_MS_MAX", 1000 * RECOVERY_S_MAX
    )  # it waits for as long as anyone does
    assert stores.valkey.pid is not None

    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"{name}_count", labels) or 0.0

    async with fragile.serve() as client:
        await client.ranking.Recommend(RecommendRequest(user_id="ann"))
        decided = count("reco_stage_seconds", stage="eligibility")
        cancelled = count("reco_rpc_seconds", method="Recommend", code="CANCELLED")
        os.kill(stores.valkey.pid, signal.SIGSTOP)
        try:
            call = client.ranking.Recommend(RecommendRequest(user_id="ann"), timeout=RECOVERY_S_MAX)
            async with asyncio.timeout(RECOVERY_S_MAX):
                while not REGISTRY.get_sample_value("reco_calls_open"):  # noqa: ASYNC110 - the server has no event for it
                    await asyncio.sleep(POLL_S)
            call.cancel()

            async def ended() -> bool:
                return count("reco_rpc_seconds", method="Recommend", code="CANCELLED") > cancelled

            await until(ended)
            assert not REGISTRY.get_sample_value("reco_calls_open")
        finally:
            os.kill(stores.valkey.pid, signal.SIGCONT)
        assert count("reco_stage_seconds", stage="eligibility") == decided
        assert not (await client.ranking.Recommend(RecommendRequest(user_id="ann"))).degradations


async def test_recommend_when_postgres_is_killed_goes_on_says_so_and_recovers(
    stores: Stores, fragile: World
) -> None:
    async with fragile.serve() as client:
        before = await client.ranking.Recommend(RecommendRequest())
        kill(stores.postgres)

        async def stale() -> bool:
            answer = await client.ranking.Recommend(RecommendRequest())
            assert answer.items == before.items
            return list(answer.degradations) == [Degradation.DEGRADATION_CATALOG_STALE]

        await until(stale)
        _, info = await refusal(client.models.ListModels(ListModelsRequest()))
        assert info.reason == "STORE_UNAVAILABLE"
        stores.postgres.start()
        await fragile.sql(
            "update items set deleted = true, changed_xid = pg_current_xact_id() where id = 'i0'"
        )

        async def fresh() -> bool:
            answer = await client.ranking.Recommend(RecommendRequest())
            return not answer.degradations and "i0" not in ids(answer)

        await until(fresh)


async def test_start_when_postgres_is_away_answers_from_the_remembered_model_and_catalogue(
    stores: Stores, fragile: World
) -> None:
    await fragile.see("u:ann", (await fragile.keys())[:5])
    request = RecommendRequest(user_id="ann", filter="categories:War AND year > 1990")
    async with fragile.serve() as client:
        before = await client.ranking.Recommend(request)
        await client.serving.engine.follower.save()
    kill(stores.postgres)
    try:
        async with fragile.serve() as client:
            away: Any = await client.ranking.Recommend(request)
            assert ids(away)
            assert away.items == before.items
            assert away.model_version == before.model_version
            assert Degradation.DEGRADATION_CATALOG_STALE in away.degradations
            stores.postgres.start()
            await fragile.sql(
                "update items set deleted = true, changed_xid = pg_current_xact_id() where id = %s",
                ids(away)[0],
            )

            async def whole() -> bool:
                answer = await client.ranking.Recommend(request)
                stale = Degradation.DEGRADATION_CATALOG_STALE in answer.degradations
                return not stale and ids(away)[0] not in ids(answer)

            await until(whole)
    finally:
        if stores.postgres.pid is None:
            stores.postgres.start()


async def test_start_when_postgres_is_away_and_the_catalogue_s_file_is_damaged_waits_for_postgres(
    stores: Stores, fragile: World
) -> None:
    file = CatalogueFile(fragile.settings.models_dir)
    file.path.mkdir()
    (file.path / MANIFEST).write_bytes(b"no JSON")
    kill(stores.postgres)
    try:
        async with fragile.serve() as client:
            assert list((await client.ranking.Recommend(RecommendRequest())).items) == []
            stores.postgres.start()

            async def whole() -> bool:
                return len((await client.ranking.Recommend(RecommendRequest())).items) == 20

            await until(whole)
            await client.serving.engine.follower.save()
            snapshot = file.read()
            assert snapshot is not None
            assert snapshot.catalogue(NOW_S).usable_count == ITEM_COUNT
    finally:
        if stores.postgres.pid is None:
            stores.postgres.start()
