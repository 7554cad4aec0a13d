"""One serving process: its parts, its background tasks, its gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import grpc
import structlog
from grpc_health.v1 import health_pb2
from reco.ranking.v1 import (
    model_service_pb2,
    model_service_pb2_grpc,
    ranking_service_pb2,
    ranking_service_pb2_grpc,
)
from redis.asyncio import Redis

from profiles.item_news import CHANNEL
from runtime.clock import Clock, SystemClock
from runtime.limiter import Limiter
from runtime.postgres import Pool, make_pool
from runtime.redis_client import connect
from runtime.redis_connection import Subscription
from runtime.redis_reader import Reader
from runtime.redis_readers import make_reader
from runtime.rpc import start_server, stop_server
from runtime.settings import Settings
from serving import limits
from serving.breaker import PROBE_PERIOD_S
from serving.catalogue import Catalogue
from serving.catalogue_file import CatalogueFile
from serving.catalogue_follower import CatalogueFollower
from serving.drift import LOOK_PERIOD_S, DriftWatch, watched
from serving.eligibility import EligibilityCache
from serving.engine import Engine
from serving.learner import Learner
from serving.live_items import LiveItems
from serving.model import MemoryBound
from serving.model_store import ModelStore
from serving.models_service import ModelService
from serving.outbox import OUTBOX_PERIOD_S, Outbox
from serving.processes import ALONE, LISTENING, WARM, Place
from serving.profile import ProfileReader
from serving.service import RankingService
from serving.surfaces import SURFACES_PERIOD_S, Surfaces, prepare_filters
from serving.trending import Trending
from serving.warm import warm_up

SERVICES = (
    ranking_service_pb2.DESCRIPTOR.services_by_name["RankingService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
)
GC_THRESHOLDS = (20_000, 20, 50)  # Python's are 700, 10, 10: some collection every few requests
DRIFT_SEED = 7  # of the sample of recent vectors
REDIS_RETRIES_MAX = (
    1  # a connection that was cut is made anew at once; a store that is away is not waited for
)


@dataclass(frozen=True)
class Serving:
    """A server that is ready."""

    engine: Engine
    pool: Pool
    port: int


@asynccontextmanager
async def running(
    settings: Settings, clock: Clock | None = None, place: Place = ALONE
) -> AsyncIterator[Serving]:
    """Starts everything, warm; stops everything at the end. Stores that are away are no reason not to start."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        pool = make_pool(settings.postgres_url)
        await pool.open(wait=False)
        stack.push_async_callback(pool.close)
        redis = connect(settings.redis_url, REDIS_RETRIES_MAX)
        stack.push_async_callback(redis.aclose)
        file = CatalogueFile(settings.models_dir)
        follower = CatalogueFollower(Catalogue(), pool, clock, file)
        # The connection that profiles are read over tells of items, too: whose profile is read after it, sees it.
        reader = make_reader(settings.redis_url, Subscription(CHANNEL, follower.take, follower.wake))
        stack.push_async_callback(reader.aclose)
        _repeat(stack, reader.keep_connected, 0.0)
        engine = _engine(settings, clock, pool, redis, reader, follower)
        port = await _serve(stack, settings, engine, pool, place)
        yield Serving(engine, pool, port)


def _engine(
    settings: Settings,
    clock: Clock,
    pool: Pool,
    redis: Redis,
    reader: Reader,
    follower: CatalogueFollower,
) -> Engine:
    catalogue = follower.catalogue
    bound = MemoryBound(settings.model_bytes_max)
    models, eligibility = ModelStore(settings.models_dir, pool, clock, bound), EligibilityCache(catalogue)
    drift = DriftWatch(partial(watched, models, eligibility), DRIFT_SEED)
    eligibility.recent_vectors = drift.recent
    live = LiveItems(catalogue)
    surfaces = Surfaces(settings.surfaces_file)
    surfaces.prepare = partial(prepare_filters, eligibility)
    models.before_swap += [eligibility.prepare_for, live.prepare]
    models.after_swap += [eligibility.forget_model, drift.forget_model, live.forget_model]
    return Engine(
        catalogue,
        follower,
        models,
        ProfileReader(reader, settings.partition_count),
        Trending(redis, clock),
        eligibility,
        drift,
        live,
        clock,
        os.urandom,
        surfaces=surfaces,
        outbox=Outbox(redis),
        learner=Learner(pool, reader, live, models, clock),
    )


async def _serve(stack: AsyncExitStack, settings: Settings, engine: Engine, pool: Pool, place: Place) -> int:
    """The port opens at once and health says NOT_SERVING until kernels, catalogue and model are there.

    Of several processes none opens the port before all are warm: the kernel would send connections to those that aren't. And
    none says SERVING before all listen, or every connection made in between would go to those that do.
    """

    def add_services(server: grpc.aio.Server) -> list[str]:
        ranking_service_pb2_grpc.add_RankingServiceServicer_to_server(RankingService(engine), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(engine.models, pool), server)
        return list(SERVICES)

    address = f"{settings.host}:{settings.ranking_port}"
    shares_port = place.states is not None
    start = partial(
        start_server, address, add_services, ready=False, shares_port=shares_port, limiter=Limiter()
    )
    if place.states is None:
        server, health, port = await start()
        stack.push_async_callback(stop_server, server, health)
    await asyncio.to_thread(warm_up)
    await asyncio.gather(engine.follower.follow(), engine.trending.refresh(), engine.models.follow())
    await engine.live.follow()  # what the one brought beside what the other did
    await engine.surfaces.begin()
    if place.states is not None:
        await place.all_are(WARM)
        server, health, port = await start()  # when it returns, the kernel knows of the listening socket
        stack.push_async_callback(stop_server, server, health)
    _repeat(stack, engine.follower.follow_next, limits.CATALOG_PAUSE_S)
    if place.index == 0:  # all have the same view, one file is enough
        _repeat(stack, engine.follower.save, limits.CATALOG_PERIOD_S)  # it knows itself whether that is due
    _repeat(stack, engine.trending.refresh, limits.TRENDING_PERIOD_S)
    _repeat(stack, engine.models.follow, limits.MODEL_PERIOD_S)
    _repeat(stack, engine.surfaces.look, SURFACES_PERIOD_S)
    if engine.outbox is not None:
        _repeat(stack, engine.outbox.flush, OUTBOX_PERIOD_S)
    _repeat(stack, engine.live.follow, limits.LIVE_PERIOD_S)
    if engine.learner is not None:
        _repeat(stack, engine.learner.look, limits.LEARN_PERIOD_S)
    _repeat(stack, engine.profiles.look, PROBE_PERIOD_S)
    _repeat(stack, engine.drift.look, LOOK_PERIOD_S)
    _repeat(stack, engine.eligibility.look, limits.FILTER_LOOK_PERIOD_S)
    settle()
    await place.all_are(LISTENING)
    for name in ("", *SERVICES):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    model = engine.models.current
    structlog.get_logger().info(
        "ready", port=port, items=engine.catalogue.size, model=model.version if model else None
    )
    return port


def settle() -> None:
    """What is there now stays: the collector need not look at it again, nor run for a few requests' small objects.

    A full collection walks every container there is; requests make hardly any cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _repeat(stack: AsyncExitStack, look: Callable[[], Awaitable[object]], period_s: float) -> None:
    task = asyncio.create_task(_look_again(look, period_s))
    stack.push_async_callback(_end, task)


async def _look_again(look: Callable[[], Awaitable[object]], period_s: float) -> None:
    while True:
        await asyncio.sleep(period_s)
        try:
            await look()
        except Exception:
            # Not foreseen, but a view that is no longer followed would only be noticed much later.
            structlog.get_logger().exception("a background task failed, it goes on")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
