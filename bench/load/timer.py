"""Wakes the event loop at a given time: to microseconds where the system has timerfd, else as well as the loop can.

The loops' own timers go by whole milliseconds (uvloop), too coarse for arrivals of 1,500 calls a second. To spin instead
would be exact as well, and would take the core from gRPC's own threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

CLOCK_MONOTONIC = 1  # perf_counter's clock on Linux
TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME = 0o4000, 0o2000000, 1
PR_SET_TIMERSLACK = 29  # the kernel may else be 50 us late, to wake several sleepers at once


class Timer(Protocol):
    """Calls back once after each `arm`."""

    def arm(self, at_s: float) -> None:
        """Calls back at `at_s` of perf_counter, or at once when it is past."""

    def close(self) -> None:
        """No call comes any more."""


def make(callback: Callable[[], None]) -> Timer:
    """A timer for the running loop."""
    if sys.platform == "linux":
        return _TimerFd(callback)
    return _LoopTimer(callback)


class _Spec(ctypes.Structure):
    _fields_ = (("interval_s", ctypes.c_long), ("interval_ns", ctypes.c_long), ("at_s", ctypes.c_long), ("at_ns", ctypes.c_long))  # fmt: skip


class _TimerFd:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer is to be had of the system")
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._fire)

    def arm(self, at_s: float) -> None:
        at_ns = max(int(at_s * 1e9), 1)  # 0 would disarm it; a past time fires at once
        spec = _Spec(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _fire(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        self._callback()


class _LoopTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, at_s: float) -> None:
        wait_s = max(at_s - perf_counter(), 0.0)
        self._handle = asyncio.get_running_loop().call_later(wait_s, self._callback)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
