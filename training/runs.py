"""The record of training runs: what a run is doing, for people who wait for it. One row a run, in Postgres.

A run that died cannot say so itself: whoever started its process does (`fail_run`), and where that died too, the next
worker (`training/stalled.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

PROGRESS_INTERVAL_S_MIN = 0.2  # a row is written at most so often; people don't read faster
CONNECT_WAIT_S_MAX = 5
END_WAIT_S_MAX = 60.0  # how long the end of a run waits for a store that is away; then the worker tells it
END_PAUSE_S = 1.0

_COLUMNS = "id, state, stage, done, total, model_version, message"


@dataclass(frozen=True)
class Run:
    """One row."""

    id: int
    state: str  # running, done, failed
    stage: str
    done: int
    total: int
    model_version: str | None
    message: str


def read_run(connection: Connection[Any], run_id: int) -> Run | None:
    """The run as it stands now."""
    with connection.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM training_runs WHERE id = %s", (run_id,)).fetchone()  # noqa: S608 -- a constant


def create_run(connection: Connection[Any]) -> int:
    """A new run that waits for a worker; returns its id. The connection is in autocommit."""
    row = connection.execute(
        "INSERT INTO training_runs (state, stage, done, total, message, start_time, change_time)"
        " VALUES ('running', 'waiting', 0, 1, '', now(), now()) RETURNING id"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def fail_run(postgres_url: str, run_id: int, message: str) -> None:
    """Notes that a run has failed, if nothing else is known of its end. psycopg.Error when the store is away."""
    query = """UPDATE training_runs SET state = 'failed', message = %s, change_time = now()
      WHERE id = %s AND state = 'running'"""
    async with await AsyncConnection.connect(
        postgres_url, autocommit=True, connect_timeout=CONNECT_WAIT_S_MAX
    ) as connection:
        await connection.execute(query, (message, run_id))


class RunLog:
    """Writes one run's progress, on a connection of its own; for one thread at a time.

    Progress is dropped while the store is away: an hour's fit is not lost for that. The end of a run waits for it.
    """

    def __init__(self, postgres_url: str, run_id: int) -> None:
        self._postgres_url = postgres_url
        self._run_id = run_id
        self._connection: Connection[Any] | None = None
        self._last_s = 0.0
        self._stage = ""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Notes where the run is; a new stage at once, steps of one stage at most every PROGRESS_INTERVAL_S_MIN."""
        now_s = time.monotonic()
        if stage == self._stage and done < total and now_s - self._last_s < PROGRESS_INTERVAL_S_MIN:
            return
        self._stage, self._last_s = stage, now_s
        try:
            self._update("stage = %s, done = %s, total = %s", stage, done, max(total, 1))
        except psycopg.OperationalError as error:
            structlog.get_logger().warning("progress can't be noted", error=str(error).strip())

    def published(self, version: str, message: str) -> None:
        """Notes a model that the run has published; the run may go on."""
        self._update_soon("model_version = %s, message = %s", version, message)

    def end(self, state: str, message: str) -> None:
        """Ends the run as "done" or "failed". An empty message leaves what was told of the last model."""
        if message:
            self._update_soon("state = %s, message = %s", state, message)
        else:
            self._update_soon("state = %s", state)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection:
            self._connection.close()

    def _update_soon(self, assignments: str, *values: object) -> None:
        deadline_s = time.monotonic() + END_WAIT_S_MAX
        while True:
            try:
                return self._update(assignments, *values)
            except psycopg.OperationalError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(END_PAUSE_S)

    def _update(self, assignments: str, *values: object) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._postgres_url, autocommit=True, connect_timeout=CONNECT_WAIT_S_MAX
            )
        self._connection.execute(
            f"UPDATE training_runs SET {assignments}, change_time = now() WHERE id = %s",  # noqa: S608 -- constants above
            (*values, self._run_id),
        )
