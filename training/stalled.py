"""Clears up after workers that died: their runs are told as failed, and hold nobody up any longer.

The queue keeps the job of a worker that was killed as being done, and its lock with it: without this, no run would ever
start again.
"""

from __future__ import annotations

import asyncio

import structlog
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from psycopg import AsyncConnection
from psycopg import Error as PostgresError

from training.runs import CONNECT_WAIT_S_MAX

HEARTBEAT_S_MAX = 30.0  # workers beat every 10 s; one that has missed three is dead
LOOK_S = 10.0
QUEUE_GRACE_S = 60.0  # between a run's row and its job in the queue lies a moment

_RUNS_WITHOUT_JOB = """
UPDATE training_runs SET state = 'failed', message = %s, change_time = now()
WHERE state = 'running' AND change_time < now() - make_interval(secs => %s) AND NOT EXISTS (
  SELECT FROM procrastinate_jobs
  WHERE status IN ('todo', 'doing') AND args ->> 'run_id' = training_runs.id::text
)
"""
_MESSAGE = "the run's worker died or its job was taken away; nothing half done was published, start another"


async def clear_up(
    app: App,
    postgres_url: str,
    heartbeat_s_max: float = HEARTBEAT_S_MAX,
    grace_s: float = QUEUE_GRACE_S,
) -> None:
    """Ends the jobs of dead workers, and the runs that no job stands for any longer."""
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=heartbeat_s_max):
        structlog.get_logger().warning("a job's worker died", job=job.id, task=job.task_name)
        await app.job_manager.finish_job(job, Status.FAILED, delete_job=False)
    async with await AsyncConnection.connect(
        postgres_url, autocommit=True, connect_timeout=CONNECT_WAIT_S_MAX
    ) as connection:
        await connection.execute(_RUNS_WITHOUT_JOB, (_MESSAGE, grace_s))


async def keep_clear(app: App, postgres_url: str) -> None:
    """`clear_up` every LOOK_S until it is cancelled; a store that is away is tried again."""
    while True:
        try:
            await clear_up(app, postgres_url)
        except (PostgresError, ConnectorException, OSError) as error:
            structlog.get_logger().warning("stalled jobs can't be looked for", error=str(error).strip())
        await asyncio.sleep(LOOK_S)
