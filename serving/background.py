"""Work for a thread of its own that gives way to requests: the kernel runs it when they leave a core idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SOON_NICE = 5  # a request waits for it: a third of what the event loop gets where both want the core
LAST_NICE = 19  # nobody waits for it: what others leave


class Background:
    """One thread, made when it is first needed; what is asked of it waits its turn."""

    def __init__(self, name: str, nice: int) -> None:
        self._threads = ThreadPoolExecutor(
            1, thread_name_prefix=name, initializer=_give_way, initargs=(nice,)
        )

    async def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What `work` returns, or raises. It goes on where its caller is cancelled."""
        call = self._threads.submit(lambda: work(*args, **options))
        return await asyncio.wrap_future(call)


def _give_way(nice: int) -> None:
    # Linux has a priority for each thread; where there is none, threads share as usual.
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        if nice == LAST_NICE:
            # Only an idle thread gives its core up the moment that the event loop wakes (runtime's SCHED_BATCH does not
            # preempt others). What it holds the GIL for are moments: its work is in numpy, hashing and kernels.
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
