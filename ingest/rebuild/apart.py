"""Long work in a thread that ends soon when whoever waits for it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Stoppable(Protocol):
    """Work in a thread."""

    def stop(self) -> None:
        """Lets what it does at the moment end with an error. Called from another thread."""
        ...


async def apart(work: Stoppable, run: Callable[[], None]) -> None:
    """Runs `run` of `work` in a thread; waits for its end also when cancelled, for it may not write any longer then."""
    running = asyncio.create_task(asyncio.to_thread(run))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        work.stop()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # it is known why
        raise
