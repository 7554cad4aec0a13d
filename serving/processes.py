"""Several serving processes behind one port: forked from one that is warm, started again when they die.

The parent imports everything and loads every kernel, then forks: children share those pages, and one that died is back
without loading them again. It forks before any gRPC object, event loop or thread of ours exists, and has none itself. All
children bind the port with SO_REUSEPORT: the kernel gives each *connection* to one of them, where it stays. So none says
that it serves before all of them listen: whoever came in between would stay with those that were first.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Final

import structlog
from reco.errors.v1 import error_reason_pb2

from runtime.errors import StateError
from runtime.lifecycle import EXIT_ERROR, die_with_parent
from runtime.rpc import STOP_GRACE_S
from runtime.settings import Settings

TICK_S: Final = 0.05  # how soon a death is noticed
WAIT_TICK_S: Final = 0.005  # how soon a process notices that the others are as far as itself
WARM, LISTENING = 1, 2  # how far a process is
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.2, 5.0  # before a process that died is started again
STEADY_S = 30.0  # one that lived so long starts again without delay
STOP_WAIT_S_MAX = STOP_GRACE_S + 5.0  # then it is killed


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is."""

    index: int
    states: mmap.mmap | None  # how far each is: one byte a process, shared by all; None: this is the only one

    async def all_are(self, state: int) -> None:
        """Says that this one is as far as `state`, and waits until all are. One that is started again finds the others so."""
        if self.states is None:
            return
        self.states[self.index] = state
        while min(self.states[:]) < state:  # noqa: ASYNC110 - other processes write it
            await asyncio.sleep(WAIT_TICK_S)


ALONE = Place(0, None)


class Stopped(BaseException):
    """The parent was told to stop. Not an error, and nobody else's to catch."""


def fork_all(settings: Settings) -> Place:
    """Returns in each child; the parent looks after them and leaves by SystemExit. StateError when the port is taken."""
    reserved = reserve(settings.host, settings.ranking_port)
    gc.freeze()  # a collection in a child would write into, and so copy, every page that it shares
    return Parent(settings.ranking_processes, reserved).run()


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps the port ours and never listens, so that no connection comes to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kept = socket.socket(family)
    try:
        with socket.socket(family) as probe:  # without the option: refused if anybody has it
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((host, port))
    except OSError as error:
        kept.close()
        message = f"{host}:{port} can't be had ({error.strerror}): choose another with RECO_RANKING_PORT"
        raise StateError(error_reason_pb2.ERROR_REASON_INTERNAL, message) from None
    return kept


class Parent:
    """Holds the children."""

    def __init__(self, count: int, reserved: socket.socket) -> None:
        self._states = mmap.mmap(-1, count)
        self._reserved = reserved
        self._started_s = [0.0] * count
        self._restart_s = [0.0] * count
        self._backoff_s = [BACKOFF_S_MIN] * count
        self._index_of: dict[int, int] = {}  # by process id
        self._log = structlog.get_logger()

    def run(self) -> Place:
        """Returns in a child."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
            while True:
                place = self._start_missing(time.monotonic())
                if place:
                    return place
                time.sleep(TICK_S)
                self._reap()
        except Stopped:
            self._end()
            raise SystemExit(0) from None

    def _start_missing(self, now_s: float) -> Place | None:
        running = set(self._index_of.values())
        for index in range(len(self._started_s)):
            if index not in running and now_s >= self._restart_s[index]:
                self._started_s[index] = now_s
                if place := self._fork(index):
                    return place
        return None

    def _fork(self, index: int) -> Place | None:
        # Held back until the child has let go of our handlers: it must not look after its brothers.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._index_of[pid] = index
        else:
            die_with_parent()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            if os.getppid() != parent:
                os._exit(EXIT_ERROR)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        return None if pid else Place(index, self._states)

    def _reap(self) -> None:
        while self._index_of:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            index, code = self._index_of.pop(pid), os.waitstatus_to_exitcode(status)
            if not any(self._states[:]) and code > 0:  # wrong from the start; the child has said what
                self._end()
                raise SystemExit(code)
            self._states[index] = 0
            self._back_off(index, time.monotonic())
            self._log.warning("a process died, will be started again", index=index, code=code)

    def _back_off(self, index: int, now_s: float) -> None:
        if now_s - self._started_s[index] > STEADY_S:
            self._backoff_s[index] = BACKOFF_S_MIN
        self._restart_s[index] = now_s + self._backoff_s[index]
        self._backoff_s[index] = min(2 * self._backoff_s[index], BACKOFF_S_MAX)

    def _end(self) -> None:
        """Stops all, and kills who does not stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for pid in self._index_of:
            os.kill(pid, signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_WAIT_S_MAX
        while self._index_of and time.monotonic() < deadline_s:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            self._index_of.pop(pid, None)
            if not pid:
                time.sleep(TICK_S)
        for pid in self._index_of:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _stop(number: int, frame: object) -> None:
    raise Stopped
