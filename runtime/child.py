"""A child process of ours: one per data folder, with a log, ending when its parent does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from reco.errors.v1 import error_reason_pb2

from runtime.errors import StateError

LOCK_WAIT_S_MAX = 15.0  # a server whose supervisor was killed ends by itself well within this
READY_WAIT_S_MAX = 60.0  # start and replay of a log of some GiB; nothing answers before that
STOP_WAIT_S_MAX = 20.0  # a clean stop takes under a second; killing it then loses nothing either
POLL_S = 0.02
LOG_BYTES_MAX = 16 * 1024 * 1024  # a longer log is begun anew at the next start

LAUNCHER = Path(__file__).with_name("launch.py")


class Child:
    """Starts `command` and sees it to its end. While it runs, it and what it forks hold a lock on `folder`.

    Call `start` from a thread that lives as long as the child should: the kernel ends the child with that thread.
    """

    def __init__(
        self, folder: Path, log: Path, end_signal: signal.Signals, account: pwd.struct_passwd | None
    ) -> None:
        self._folder = folder
        self._log = log
        self._end_signal = end_signal
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, command: Sequence[str], prepare: Callable[[], None] = lambda: None) -> None:
        """Waits until no earlier server holds the folder, calls `prepare`, then starts. Raises StateError, OSError."""
        lock = self._lock()
        try:
            if self._process is not None:
                self._process.wait()  # it has let go of the lock, so it ends now if it has not
            prepare()
            with self._open_log() as log:
                self._process = subprocess.Popen(  # noqa: S603 -- a command of ours, not of a caller
                    launch(command, self._end_signal, self._account),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,), start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(lock)

    def wait_ready(self, is_ready: Callable[[], bool]) -> None:
        """Polls until it answers; raises StateError with the end of the log when it ended or took too long."""
        deadline_s = time.monotonic() + READY_WAIT_S_MAX
        while not is_ready():
            if self.pid is None or time.monotonic() > deadline_s:
                raise _state_error(
                    f"{self._folder.name} did not start; {self._log} ends with: {self._log_end()}"
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Asks it to end, waits, and kills it when it does not."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self._end_signal)
        try:
            self._process.wait(STOP_WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _lock(self) -> int:
        lock = os.open(self._folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        deadline_s = time.monotonic() + LOCK_WAIT_S_MAX
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            if time.monotonic() > deadline_s:
                os.close(lock)
                raise _state_error(
                    f"another server runs on {self._folder}; stop it, or choose another data folder"
                )
            time.sleep(POLL_S)

    def _open_log(self) -> IO[bytes]:
        too_long = self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX
        return self._log.open("wb" if too_long else "ab")

    def _log_end(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-3:])


def launch(
    command: Sequence[str], end_signal: signal.Signals, account: pwd.struct_passwd | None
) -> list[str]:
    """What to start instead of `command`, so that it runs as `account` (None: ours) and ends when we do."""
    uid, gid = (account.pw_uid, account.pw_gid) if account else (-1, -1)
    numbers = [str(number) for number in (os.getpid(), int(end_signal), uid, gid)]
    return [sys.executable, "-I", "-S", str(LAUNCHER), *numbers, *command]


def _state_error(message: str) -> StateError:
    return StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
