"""The worker: takes jobs from the queue and runs them. `python -m training.worker`."""

from __future__ import annotations

import asyncio

import structlog
from procrastinate.exceptions import ConnectorException

from runtime.errors import store_unavailable
from runtime.lifecycle import run
from runtime.metrics import serve_metrics
from runtime.settings import Settings
from training.jobs import apply_schema, make_app
from training.stalled import keep_clear

METRICS_PORT_OFFSET = 3  # from settings.metrics_port_base
CONCURRENCY = 2  # a long training must not hold up short jobs
POLL_S = 5.0  # beside Postgres' notifications, which wake it at once
STOP_WAIT_S_MAX = 15.0  # then running jobs are cancelled


def main() -> None:
    run("worker", _work)


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    serve_metrics(settings.host, settings.metrics_port_base + METRICS_PORT_OFFSET)
    try:
        await work(settings, stop)
    except ConnectorException as error:
        raise store_unavailable("postgres", error.__cause__ or error) from error


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Runs jobs until `stop`. Ends by itself when the store goes away: whoever supervises it starts it again."""
    app = make_app(settings.postgres_url)
    async with app.open_async():
        await apply_schema(app, settings.postgres_url)
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=CONCURRENCY,
                fetch_job_polling_interval=POLL_S,
                install_signal_handlers=False,
                shutdown_graceful_timeout=0,
            )
        )
        clearing = asyncio.create_task(keep_clear(app, settings.postgres_url))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((worker, stopped, clearing), return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, clearing, worker):
            task.cancel()
        ended, _ = await asyncio.wait((worker, clearing), timeout=STOP_WAIT_S_MAX)
    for task in ended:
        if not task.cancelled() and (error := task.exception()):
            structlog.get_logger().error("the worker stops", error=f"{type(error).__name__}: {error}".strip())


if __name__ == "__main__":
    main()
