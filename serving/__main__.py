"""`python -m serving`: RankingService and ModelService over gRPC."""

from __future__ import annotations

import asyncio
from functools import partial

from runtime.lifecycle import Main, run, work_in_batches
from runtime.metrics import serve_metrics
from runtime.settings import Settings
from serving.processes import ALONE, Place, fork_all
from serving.server import running
from serving.warm import warm_up

METRICS_PORT_OFFSET = 2  # beside ingest and its consumer, see settings.metrics_port_base
METRICS_PORT_OFFSET_FURTHER = 10  # of the second process and those after it, plus its number from one on


def metrics_port(settings: Settings, index: int) -> int:
    """Where the process `index`, from 0 on, serves its metrics."""
    offset = METRICS_PORT_OFFSET if index == 0 else METRICS_PORT_OFFSET_FURTHER + index
    return settings.metrics_port_base + offset


async def main(settings: Settings, stop: asyncio.Event, place: Place = ALONE) -> None:
    """Serves until `stop`."""
    serve_metrics(settings.host, metrics_port(settings, place.index))
    async with running(settings, place=place):
        await stop.wait()


def prepare(settings: Settings) -> Main:
    """With several processes: forks them, warm; returns in each of them."""
    work_in_batches()
    if settings.ranking_processes == 1:
        return main
    warm_up()
    return partial(main, place=fork_all(settings))


if __name__ == "__main__":
    run("serving", main, prepare)
