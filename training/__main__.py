"""One training run as a process of its own: `python -m training RUN_ID [--quick]`. The worker starts it, at low priority."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from functools import partial

import psycopg
import structlog

from bundle import registry
from ingest.lag import lags
from ingest.lake.files import open_lake
from ingest.lake.names import EVENTS
from ingest.lake.query import read
from runtime.errors import RecoError
from runtime.lifecycle import EXIT_ERROR, die_with_parent, run
from runtime.postgres import Pool, open_pool
from runtime.redis_client import connect
from runtime.settings import Settings
from training.catalogue import read_items
from training.config import QUICK_RANKER, Config
from training.dataset import Dataset, DatasetError
from training.lake import read_lake
from training.publish import publish
from training.run import Candidate, train
from training.runs import RunLog

NICE = 10  # serving on the same machine goes first
LAKE_WAIT_S_MAX = (
    60.0  # the lake's sink takes 100,000 events in seconds; under steady load it is never quite level
)
LAKE_POLL_S = 0.2
QUICK = Config(ranker=QUICK_RANKER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_id", type=int)
    parser.add_argument(
        "--quick", action="store_true", help="a smaller ranker, in seconds rather than minutes"
    )
    options = parser.parse_args()
    die_with_parent()
    os.nice(NICE)
    run("training", partial(run_job, options.run_id, QUICK if options.quick else Config()))


async def run_job(run_id: int, config: Config, settings: Settings, stop: asyncio.Event) -> None:
    """One run: trains, publishes, and notes how it ended. SystemExit 1 when it failed; `stop` ends the process."""
    log = RunLog(settings.postgres_url, run_id)
    try:
        async with open_pool(settings.postgres_url) as pool:
            work = asyncio.create_task(_train(settings, pool, log, config))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                log.end("failed", "stopped; nothing half done was published")
                os._exit(EXIT_ERROR)  # CatBoost runs in a thread that nothing can interrupt
            stopped.cancel()
            await work
        log.end("done", "")
    except Exception as error:
        _tell(error)
        with contextlib.suppress(psycopg.Error):  # the worker tells it when the store is back
            await asyncio.to_thread(log.end, "failed", _words(error))
        raise SystemExit(EXIT_ERROR) from None
    finally:
        log.close()


def _tell(error: Exception) -> None:
    logger = structlog.get_logger()
    if isinstance(error, RecoError | DatasetError | OSError | psycopg.OperationalError):
        logger.error("the run failed", error=_words(error))
    else:
        logger.exception("the run failed")  # ours: whoever mends it needs to see where


def _words(error: Exception) -> str:
    # A bare MemoryError has no words of its own.
    foreseen = isinstance(error, RecoError | DatasetError)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


async def _train(settings: Settings, pool: Pool, log: RunLog, config: Config) -> None:
    first = await registry.active_version(pool) is None
    loop = asyncio.get_running_loop()

    def hand_over(candidate: Candidate) -> None:
        asyncio.run_coroutine_threadsafe(_publish(settings, pool, log, candidate), loop).result()

    await _lake_caught_up(settings, log)
    dataset = await asyncio.to_thread(_read, settings, log)
    await asyncio.to_thread(train, dataset, config, first, hand_over, log.progress)


async def _lake_caught_up(settings: Settings, log: RunLog) -> None:
    """Waits until the lake has what was accepted before the run, so that "load, then train" trains on all of it."""
    log.progress("waiting for the lake", 0, 1)
    deadline_s = time.monotonic() + LAKE_WAIT_S_MAX
    async with connect(settings.redis_url) as redis:
        while any((await lags(redis, settings.partition_count))["lake"].values()):
            if time.monotonic() > deadline_s:
                structlog.get_logger().warning("the lake is behind; training on what it has")
                break
            await asyncio.sleep(LAKE_POLL_S)


def _read(settings: Settings, log: RunLog) -> Dataset:
    log.progress("reading the lake", 0, 1)
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        items = read_items(connection)
    lake = open_lake(settings.lake_url, settings.data_dir)
    dataset = read(lake, lambda connection, names: read_lake(names[EVENTS], items, connection))
    log.progress("reading the lake", 1, 1)
    return dataset


async def _publish(settings: Settings, pool: Pool, log: RunLog, candidate: Candidate) -> None:
    model = candidate.model
    outcome = await publish(
        settings,
        pool,
        model.to_arrays(),
        model.params,
        candidate.metrics,
        candidate.event_count,
        candidate.note,
        queries=candidate.queries,
        content=candidate.content,
    )
    structlog.get_logger().info(
        "published", version=outcome.version, activated=outcome.activated, reason=outcome.reason
    )
    await asyncio.to_thread(log.published, outcome.version, outcome.reason)


if __name__ == "__main__":
    main()
