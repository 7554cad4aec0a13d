"""The record of training runs: what a run is doing, for people who wait for it. One row a run, in Postgres."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

PROGRESS_INTERVAL_S_MIN = 0.2  # a row is written at most so often; people don't read faster

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


class RunLog:
    """Writes one run's progress. The connection is in autocommit and belongs to one thread."""

    def __init__(self, connection: Connection[Any], run_id: int) -> None:
        self._connection = connection
        self._run_id = run_id
        self._last_s = 0.0
        self._stage = ""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Notes where the run is; a new stage at once, steps of one stage at most every PROGRESS_INTERVAL_S_MIN."""
        now_s = time.monotonic()
        if stage == self._stage and done < total and now_s - self._last_s < PROGRESS_INTERVAL_S_MIN:
            return
        self._stage, self._last_s = stage, now_s
        self._update("stage = %s, done = %s, total = %s", stage, done, max(total, 1))

    def published(self, version: str, message: str) -> None:
        """Notes a model that the run has published; the run may go on."""
        self._update("model_version = %s, message = %s", version, message)

    def end(self, state: str, message: str) -> None:
        """Ends the run as "done" or "failed"."""
        self._update("state = %s, message = %s", state, message)

    def _update(self, assignments: str, *values: object) -> None:
        self._connection.execute(
            f"UPDATE training_runs SET {assignments}, change_time = now() WHERE id = %s",  # noqa: S608 -- constants above
            (*values, self._run_id),
        )
