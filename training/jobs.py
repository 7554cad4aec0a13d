"""The jobs queue: procrastinate on the Postgres that is there anyway."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from psycopg import AsyncConnection
from psycopg import Error as PostgresError

from runtime import metrics
from runtime.migrate import ADVISORY_LOCK, OTHERS_WAIT_S_MAX
from runtime.postgres import postgres_errors
from runtime.postgres_locks import advisory_lock
from runtime.settings import load_settings
from training.runs import fail_run

TRAIN = "train"  # the task, and its locks: one run at a time, one waiting
COMMAND = (sys.executable, "-m", "training")
STOP_WAIT_S_MAX = 10.0  # a training process that was asked to stop ends at once; then it is killed


def make_app(postgres_url: str) -> App:
    """The queue's app with all its tasks. Open it with `open_async()`."""
    app = App(connector=PsycopgConnector(conninfo=postgres_url, min_size=1, max_size=4))
    app.task(name=TRAIN, queueing_lock=TRAIN, lock=TRAIN)(run_training)
    return app


async def apply_schema(app: App, postgres_url: str) -> None:
    """Creates the queue's tables once, under the lock that all migrations take."""
    with postgres_errors():
        await _apply_schema(app, postgres_url)


async def _apply_schema(app: App, postgres_url: str) -> None:
    async with (
        await AsyncConnection.connect(postgres_url, autocommit=True) as connection,
        advisory_lock(connection, ADVISORY_LOCK, OTHERS_WAIT_S_MAX),
    ):
        found = await connection.execute("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")
        row = await found.fetchone()
        if row is None or not row[0]:
            await app.schema_manager.apply_schema_async()


async def enqueue_training(app: App, run_id: int, quick: bool) -> bool:
    """Puts a run in the queue; False when one waits there already."""
    with contextlib.suppress(AlreadyEnqueued):
        await app.configure_task(TRAIN, queueing_lock=TRAIN, lock=TRAIN).defer_async(
            run_id=run_id, quick=quick
        )
        return True
    return False


async def run_training(run_id: int, quick: bool) -> None:
    """Runs one training in a process of its own, so that it can be stopped and leaves no memory behind."""
    command = [*COMMAND, str(run_id), *(["--quick"] if quick else [])]
    start_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        await _stop(process)
        raise
    metrics.JOB_SECONDS.labels(TRAIN, "done" if code == 0 else "failed").observe(time.monotonic() - start_s)
    if code != 0:
        await _tell_failed(run_id, code)
        raise RuntimeError(f"training run {run_id} ended with code {code}; its log and its row say why")


async def _tell_failed(run_id: int, code: int) -> None:
    # The process says it itself where it can; a killed one cannot. With the store away too, training/stalled.py does.
    how = f"was killed by signal {-code}; did its memory run out?" if code < 0 else f"ended with code {code}."
    with contextlib.suppress(PostgresError, OSError):
        await fail_run(
            load_settings().postgres_url, run_id, f"the training process {how} The worker's log may say more"
        )


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_WAIT_S_MAX)
    except TimeoutError:
        process.kill()
        await process.wait()
