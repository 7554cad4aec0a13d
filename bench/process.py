"""One child process with settings of its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from runtime.child import Child

ENV = "/usr/bin/env"


class Process:
    """`python -m COMMAND` with `environment` over ours; its log beside `folder`. It ends when we do."""

    def __init__(
        self, command: Sequence[str], folder: Path, probe: Callable[[], bool], environment: Mapping[str, str]
    ) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.log = folder.with_suffix(".log")
        self._child = Child(folder, self.log, signal.SIGTERM, None)
        settings = [f"{name}={value}" for name, value in environment.items()]
        self._command = [ENV, *settings, sys.executable, "-m", *command]

        self._probe = probe

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._child.pid

    def start(self) -> None:
        """Starts it and does not wait."""
        self._child.start(self._command)

    def stop(self) -> None:
        """Asks it to end, waits, and kills it when it does not."""
        self._child.stop()

    def is_ready(self) -> bool:
        """Whether it lives and answers."""
        return self.pid is not None and self._probe()
