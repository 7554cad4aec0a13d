"""Fills the stores with a data set, by the product's own formats: items by COPY, profiles by the codec, the model by publishing.

Each step leaves a mark when it is whole, so that a later run starts where an earlier one ended.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray
from redis import Redis

from bench.dataset import Dataset
from bench.generate.attributes import catalogue_rows, user_id
from bench.generate.whole import vectors
from ingest.schema import MIGRATIONS
from profiles.codec import merge, pack_event
from profiles.store import profile_key
from profiles.subjects import subject_of
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.settings import Settings
from training.publish import publish

ROOT = Path(__file__).resolve().parent.parent
PROFILES_PER_BATCH = 2_000  # a flush to the disk each: Valkey answers what is written
REDIS_WAIT_S_MAX = 30.0
PLAN_QUERIES_MIN, PLAN_QUERIES = 200, 1_000
COPY_WAIT_S_MAX = 600.0  # a million rows of 800 bytes take about a minute
COLUMNS = (
    "id, title, categories, tags, numeric_attributes, string_attributes, create_time, available, media_url"
)
# What a bundle is made by: when that changes, the model is published again.
PUBLISHED_BY = ("training/publish.py", "retrieval/*.py", "bundle/*.py", "vectorizer/model.py")
STORED_BY = ("ingest/migrations/*.sql", "profiles/codec.py", "profiles/limits.py", "bench/loading.py")


def source_digest(patterns: tuple[str, ...]) -> str:
    """Twelve hex digits of the project's files that match."""
    found = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def load(dataset: Dataset, settings: Settings) -> None:
    """Migrates, then loads items, profiles and model where their marks are missing. The stores must be up."""
    done = settings.data_dir / "done"
    done.mkdir(parents=True, exist_ok=True)
    for name, step in (("items", _items), ("profiles", _profiles)):
        if not (done / name).exists():
            step(dataset, settings)
            (done / name).touch()
    asyncio.run(_migrate(settings))
    mark = done / f"model-{source_digest(PUBLISHED_BY)}"
    if not mark.exists():
        asyncio.run(_publish(dataset, settings))
        mark.touch()


async def _migrate(settings: Settings) -> None:
    async with open_pool(settings.postgres_url) as pool:
        await migrate(pool, MIGRATIONS)


def _items(dataset: Dataset, settings: Settings) -> None:
    asyncio.run(_migrate(settings))
    options = f"-c statement_timeout={int(COPY_WAIT_S_MAX * 1000)}"
    with psycopg.connect(settings.postgres_url, options=options) as connection:
        connection.execute("truncate items restart identity")
        copy = f"copy items ({COLUMNS}) from stdin"
        with connection.cursor() as cursor, cursor.copy(copy.encode()) as sink:
            # By rising key, so that the table numbers them as the model does.
            for item_id, title, categories, tags, numbers, texts, created_s in catalogue_rows(
                dataset.attributes, dataset.model.item_keys
            ):
                created = datetime.fromtimestamp(created_s, UTC)
                sink.write_row((item_id, title, categories, tags, numbers, texts, created, True, ""))
        row = connection.execute("select min(key), max(key), count(*) from items").fetchone()
        count = dataset.model.item_count
        assert row == (1, count, count), f"the table's keys are not the model's: {row}"
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        connection.execute("vacuum analyze items")


def _profiles(dataset: Dataset, settings: Settings) -> None:
    ttl_s = settings.profile_ttl_days * 86_400
    with Redis.from_url(settings.redis_url, socket_timeout=REDIS_WAIT_S_MAX) as redis:
        pipeline = redis.pipeline(transaction=False)
        for user, value in enumerate(profiles(dataset)):
            pipeline.set(profile_key(subject_of(user_id(user), "")), value, ex=ttl_s)
            if user % PROFILES_PER_BATCH == PROFILES_PER_BATCH - 1:
                pipeline.execute()
        pipeline.execute()


def profiles(dataset: Dataset) -> Iterator[bytes]:
    """Each user's profile as the store has it."""
    events, keys = dataset.events, np.asarray(dataset.model.item_keys)
    for user in range(len(events.offsets) - 1):
        where = events.of(user)
        parts = (
            events.times[where].tolist(),
            events.codes[where].tolist(),
            keys[events.rows[where]].tolist(),
        )
        packed = [pack_event(time_s, code, key) for time_s, code, key in zip(*parts, strict=True)]
        yield merge(None, np.array(packed, dtype=np.uint64), 0)


async def _publish(dataset: Dataset, settings: Settings) -> None:
    model = dataset.model
    async with open_pool(settings.postgres_url) as pool:
        count = int(model.params["event_count"])
        arrays = model.to_arrays()
        outcome = await publish(
            settings, pool, arrays, model.params, {}, count, "bench", queries=_other_queries(dataset)
        )
    assert outcome.activated, outcome.reason


def _other_queries(dataset: Dataset) -> NDArray[np.float32] | None:
    """Vectors of users whom the bench does not ask about: a plan must not be chosen by the queries that judge it."""
    first = int(dataset.query_users.max()) + 1
    if first + PLAN_QUERIES_MIN > len(dataset.events.offsets) - 1:
        return None  # then the plan is chosen by the items themselves
    return vectors(dataset.model, dataset.events, PLAN_QUERIES, first)[0]
