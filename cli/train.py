"""`reco train`: puts a training run in the queue and watches it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated

import psycopg
import typer
from reco.errors.v1 import error_reason_pb2
from rich.progress import Progress

from cli.output import Json, console, notes, print_json, progress_bar
from cli.system import running_settings
from runtime.errors import StateError
from runtime.settings import Settings
from training.jobs import apply_schema, enqueue_training, make_app
from training.runs import Run, create_run, read_run

POLL_S = 0.2
WAIT_S_MAX = 24 * 3600.0  # a run may take long; Ctrl-C stops the watching, not the run


def train(
    quick: Annotated[bool, typer.Option(help="A smaller ranker: seconds rather than minutes.")] = False,
    detach: Annotated[bool, typer.Option(help="Don't wait for the end.")] = False,
    json: Json = False,
) -> None:
    """Train a model on all events in the lake, as a job, and publish it.

    A model that is worse than the active one by more than RECO_MODEL_MARGIN is published, but held.

    --json: {"run_id", "state", "model_version", "message"}
    """
    settings = running_settings()
    run_id = start_run(settings, quick)
    run = None if detach else watch(settings, run_id, _tell)
    if json:
        print_json(
            {
                "run_id": run_id,
                "state": run.state if run else "queued",
                "model_version": run.model_version if run else None,
                "message": run.message if run else "",
            }
        )
    elif run:
        console.print(f"{run.state}: {run.model_version or 'no model'} {run.message}".rstrip())
    else:
        console.print(f"run {run_id} is queued; `reco models list` shows what comes of it")
    if run and run.state == "failed":
        raise typer.Exit(1)


def start_run(settings: Settings, quick: bool) -> int:
    """Queues a run and returns its id; StateError when one is waiting already."""
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        run_id = create_run(connection)
        if not asyncio.run(_enqueue(settings.postgres_url, run_id, quick)):
            connection.execute("DELETE FROM training_runs WHERE id = %s", (run_id,))
            message = "a training run waits in the queue already; watch it with `reco models list`"
            raise StateError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message)
    return run_id


async def _enqueue(postgres_url: str, run_id: int, quick: bool) -> bool:
    app = make_app(postgres_url)
    async with app.open_async():
        await apply_schema(app, postgres_url)
        return await enqueue_training(app, run_id, quick)


def watch(settings: Settings, run_id: int, published: Callable[[Run], None]) -> Run:
    """Draws the run's progress until it ends, and calls `published` for each model on the way."""
    told = ""
    deadline_s = time.monotonic() + WAIT_S_MAX
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection, progress_bar() as bar:
        while True:
            run = read_run(connection, run_id)
            if run is None or time.monotonic() > deadline_s:
                raise StateError(
                    error_reason_pb2.ERROR_REASON_UNSPECIFIED, f"run {run_id} can't be followed any longer"
                )
            _draw(bar, run)
            if run.model_version and run.model_version != told:
                told = run.model_version
                published(run)
            if run.state != "running":
                return run
            time.sleep(POLL_S)


def _tell(run: Run) -> None:
    notes.print(f"published {run.model_version}: {run.message}", markup=False)


def _draw(bar: Progress, run: Run) -> None:
    if not bar.tasks or bar.tasks[-1].description != run.stage:
        for task in bar.tasks:
            bar.update(task.id, completed=task.total)
        bar.add_task(run.stage, total=run.total)
    bar.update(bar.tasks[-1].id, completed=run.done, total=run.total)
