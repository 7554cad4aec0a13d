"""A running serving process in this process: real stores, real gRPC, a small catalogue and a small model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from reco.ranking.v1 import model_service_pb2_grpc, ranking_service_pb2_grpc
from redis.asyncio import Redis

from profiles.codec import merge, pack_event
from profiles.signals import Signal
from profiles.store import profile_key
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.settings import Settings, load_settings
from serving.server import Serving, running
from tests.integration.serving.models import make_model
from training.publish import Outcome, publish
from vectorizer import ModelArrays

REPOSITORY = Path(__file__).parents[3]
ITEM_COUNT = 60
NOW_S = 1_800_000_000
GENRES = ("Comedy", "Drama", "War")


@dataclass(frozen=True)
class World:
    """One database, one Valkey, one folder of models."""

    settings: Settings
    redis: Redis

    async def sql(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.settings.postgres_url, autocommit=True) as c:
            cursor = await c.execute(query, arguments)  # type: ignore[arg-type]  # the tests' own texts
            return await cursor.fetchall() if cursor.description else []

    async def publish(self, model: ModelArrays, ndcg: float = 0.1) -> Outcome:
        async with open_pool(self.settings.postgres_url) as pool:
            metrics = {"vectorizer_ndcg_at_10": ndcg}
            return await publish(self.settings, pool, model.to_arrays(), model.params, metrics, 100, "")

    async def keys(self) -> np.ndarray:
        rows = await self.sql("select key from items where not deleted order by key")
        return np.array([row[0] for row in rows], dtype=np.int32)

    async def see(
        self, subject: str, keys: Sequence[int], signal: Signal = Signal.CLICK, offset: int = 1
    ) -> None:
        """Puts events into the profile of "u:..." or "s:...", as the sink does."""
        name = profile_key(subject)
        packed = [pack_event(NOW_S + i, signal, int(key)) for i, key in enumerate(keys)]
        value = merge(await self.redis.get(name), np.array(packed, dtype=np.uint64), offset)
        await self.redis.set(name, value)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Client]:
        async with running(self.settings) as serving, connected(serving) as client:
            yield client


@asynccontextmanager
async def connected(serving: Serving) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
        ranking = ranking_service_pb2_grpc.RankingServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        yield Client(serving, channel, ranking, models)


@dataclass(frozen=True)
class Client:
    """A served world and the stubs that talk to it."""

    serving: Serving
    channel: grpc.aio.Channel
    ranking: Any
    models: Any


async def insert_items(world: World, count: int = ITEM_COUNT, first: int = 0) -> None:
    """Items "i0", "i1", ...: year 1980 + i, genre by i % 3, tag "even" on every other."""
    query = """insert into items (id, title, categories, tags, numeric_attributes, string_attributes, create_time,
      available, media_url) values (%s, %s, %s, %s, %s, %s, to_timestamp(%s), true, '')"""
    async with await psycopg.AsyncConnection.connect(world.settings.postgres_url) as c:
        await c.cursor().executemany(query, [_item(first + i) for i in range(count)])  # type: ignore[arg-type]  # our own text


def _item(i: int) -> tuple[Any, ...]:
    tags = ["even"] if i % 2 == 0 else []
    attributes = (Jsonb({"year": 1980 + i}), Jsonb({"brand": f"b{i % 5}"}))
    return f"i{i}", f"Title {i}", [GENRES[i % 3]], tags, *attributes, 1_600_000_000 + i


@pytest.fixture
async def world(valkey: str, postgres: str, redis: Redis, tmp_path: Path) -> World:
    """An empty world, migrated."""
    settings = load_settings(
        data_dir=tmp_path, redis_url=valkey, postgres_url=postgres, ranking_port=0, _env_file=None
    )
    world = World(settings, redis)
    await world.sql("drop schema public cascade")
    await world.sql("create schema public")
    async with open_pool(postgres) as pool:
        await migrate(pool, REPOSITORY / "ingest" / "migrations")
    return world


@pytest.fixture
async def stocked(world: World) -> World:
    """A world with items and no model."""
    await insert_items(world)
    return world


@pytest.fixture
async def modelled(stocked: World) -> World:
    """A world with items and an active model that knows all of them."""
    await stocked.publish(make_model(await stocked.keys()))
    return stocked


@pytest.fixture
async def client(modelled: World) -> AsyncIterator[Client]:
    """A served world with a model."""
    async with modelled.serve() as client:
        yield client
