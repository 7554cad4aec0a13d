"""`python -m serving`: RankingService and ModelService over gRPC."""

from __future__ import annotations

import asyncio

from runtime.lifecycle import run
from runtime.metrics import serve_metrics
from runtime.settings import Settings
from serving.server import running

METRICS_PORT_OFFSET = 2  # beside ingest and its consumer, see settings.metrics_port_base


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop`."""
    serve_metrics(settings.host, settings.metrics_port_base + METRICS_PORT_OFFSET)
    async with running(settings):
        await stop.wait()


if __name__ == "__main__":
    run("serving", main)
