"""The worker: takes jobs from the queue and runs them. `python -m training.worker`."""

from __future__ import annotations

import asyncio

from runtime.lifecycle import run
from runtime.metrics import serve_metrics
from runtime.settings import Settings
from training.jobs import apply_schema, make_app

METRICS_PORT_OFFSET = 3  # from settings.metrics_port_base
CONCURRENCY = 2  # a long training must not hold up short jobs
POLL_S = 5.0  # beside Postgres' notifications, which wake it at once
STOP_WAIT_S_MAX = 15.0  # then running jobs are cancelled


def main() -> None:
    run("worker", _work)


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    serve_metrics(settings.host, settings.metrics_port_base + METRICS_PORT_OFFSET)
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
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((worker, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        worker.cancel()
        await asyncio.wait((worker,), timeout=STOP_WAIT_S_MAX)


if __name__ == "__main__":
    main()
