"""How every process starts, waits and stops."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog
import uvloop

from runtime.errors import RecoError
from runtime.log import configure_logging
from runtime.settings import Settings, SettingsError, load_settings

EXIT_ERROR = 1
EXIT_USAGE = 2  # also: wrong settings; a supervisor should not start the process again
PR_SET_PDEATHSIG = 1  # prctl(2)

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]


def run(process: str, main: Main, prepare: Callable[[Settings], Main] | None = None) -> None:
    """Runs `main(settings, stop)` until it returns; SIGINT and SIGTERM set `stop`. Ends the program with its exit code.

    `prepare` may do what must be done before there is an event loop (fork), and says what to run in place of `main`.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        _refuse(process, error)
    configure_logging(process, settings.log_level)
    log = structlog.get_logger()
    try:
        main = prepare(settings) if prepare else main
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run_until_stopped(main, settings))
    except SettingsError as error:  # what only this process finds wrong
        _refuse(process, error)
    except (RecoError, OSError) as error:
        log.error("stopped by an error", error=str(error), kind=type(error).__name__)
        raise SystemExit(EXIT_ERROR) from None
    raise SystemExit(0)


def _refuse(process: str, error: SettingsError) -> NoReturn:
    print(f"{process}: wrong settings\n{error}", file=sys.stderr)
    raise SystemExit(EXIT_USAGE) from None


async def _run_until_stopped(main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await main(settings, stop)


def work_in_batches() -> None:
    """Asks the kernel not to interrupt a thread of this process for another that wakes. Before there are others; Linux only.

    gRPC's threads wake for every frame, and on one core each takes it from the handler that runs. Without that a serving
    process answered 8 % more calls (docs/decisions/0013-overload.md). A policy that someone else has chosen stays.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def die_with_parent() -> None:
    """Asks the kernel to end this process when its parent ends, however that happens. Linux only; elsewhere a no-op."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
