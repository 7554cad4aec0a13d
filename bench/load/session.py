"""Around a run: a loop, clients, a core of its own, and no garbage collector in between."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from bench.load.answer import Caller
from bench.load.grpc_client import GrpcCaller
from bench.load.http_client import HttpCaller
from bench.load.limits import CONNECTIONS_MAX, NICE_MAX, TIMEOUT_S
from bench.load.target import Target

T = TypeVar("T")


def pin(core: int | None) -> None:
    """Keeps this process, and the threads it starts from now on, on one core. Raises ValueError."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        return
    try:
        os.sched_setaffinity(0, {core})
    except (OSError, OverflowError):
        raise ValueError(f"there is no core {core} that this process may use") from None


def step_back(nice: int) -> None:
    """Lets processes that share the core go first. Raises ValueError."""
    if not 0 <= nice <= NICE_MAX:
        raise ValueError(f"nice is {nice}, it has to be 0 to {NICE_MAX}")
    if nice and hasattr(os, "nice"):
        os.nice(nice)


def run(
    targets: Sequence[Target], users: Sequence[str], connections: int,
    work: Callable[[list[Caller]], Awaitable[T]], timeout_s: float = TIMEOUT_S,
) -> T:  # fmt: skip
    """What `work` makes of clients of the targets, on uvloop where it is installed."""
    if not 1 <= connections <= CONNECTIONS_MAX:
        raise ValueError(f"connections is {connections}, it has to be 1 to {CONNECTIONS_MAX}")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_with_callers(targets, users, connections, work, timeout_s))


async def _with_callers(
    targets: Sequence[Target], users: Sequence[str], connections: int,
    work: Callable[[list[Caller]], Awaitable[T]], timeout_s: float,
) -> T:  # fmt: skip
    callers = [caller_of(target, users, connections, timeout_s) for target in targets]
    try:
        with collector_stopped():
            return await work(callers)
    finally:
        for caller in callers:
            await caller.close()


def caller_of(target: Target, users: Sequence[str], connections: int, timeout_s: float = TIMEOUT_S) -> Caller:
    """A client for the target, in the running loop."""
    kind = GrpcCaller if target.scheme == "grpc" else HttpCaller
    return kind(target, users, connections, timeout_s)


@contextmanager
def collector_stopped() -> Iterator[None]:
    """The collector's pauses would be measured as the server's. What a run leaves behind is bounded by CALLS_MAX."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
