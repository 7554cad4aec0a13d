"""The whole system as a user starts it: `reco up` in a process of its own, on free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg

REPOSITORY = Path(__file__).parent.parent.parent
FRESHNESS_REPORT = REPOSITORY / ".cache" / "reports" / "freshness.json"
READY_S_MAX = 240.0  # a first start compiles the kernels, on a busy machine
WAIT_S_MAX = 60.0
POLL_S = 0.02

T = TypeVar("T")


class System:
    """`reco up` and how to talk to it."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.output = folder / "output.txt"
        self.ports = free_ports()
        self.rest = httpx.Client(base_url=f"http://127.0.0.1:{self.ports['GATEWAY_PORT']}", timeout=30)
        self.loaded: dict[str, Any] = {}
        self.settings: dict[str, str] = {}  # more of them, without RECO_
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        settings = {f"RECO_{name}": str(value) for name, value in (self.ports | self.settings).items()}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RECO_")}
        paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "gen")])
        return {**inherited, **settings, "RECO_DATA_DIR": str(self.data_dir), "PYTHONPATH": paths}

    def start(self, *arguments: str) -> None:
        """Starts it and waits until it says that it is up."""
        before = len(self.said())
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli", "up", *arguments], env=self.environment, cwd=REPOSITORY,
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: "Ctrl-C stops everything" in self.said()[before:] or self._ended(), READY_S_MAX)
        assert not self._ended(), self.said()[before:]

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def said(self) -> str:
        """All that it has printed."""
        return self.output.read_text() if self.output.exists() else ""

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, by default; returns the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(WAIT_S_MAX)
        self._process = None
        return code

    def close(self) -> None:
        """Ends it for good."""
        self.stop()
        self.rest.close()

    def reco(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs the command line against it."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments], env=self.environment, cwd=REPOSITORY, text=True,
            capture_output=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def reco_json(self, *arguments: str) -> Any:
        return json.loads(self.reco(*arguments, "--json").stdout)

    def pids(self, word: str) -> list[int]:
        """Our own processes of this data folder whose command line holds `word`, found without the supervisor's help."""
        return [pid for pid, command in self.processes().items() if word in command]

    def processes(self) -> dict[int, str]:
        """Every process, the supervisor aside, that was started for this data folder."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue  # it ended while we looked
            mine = str(self.data_dir) in command or f"RECO_DATA_DIR={self.data_dir}".encode() in environment
            if mine and command and "-m cli" not in command:
                found[int(entry.name)] = command
        return found

    def postgres(self) -> psycopg.Connection[Any]:
        note = json.loads((self.data_dir / "running.json").read_text())
        return psycopg.connect(note["postgres_url"], autocommit=True)


def free_ports() -> dict[str, int]:
    """Ports that nobody listens on now; four in a row for the metrics."""
    probes = [socket.socket() for _ in range(4)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        numbers = [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
    names = ("GATEWAY_PORT", "INGEST_PORT", "RANKING_PORT")
    # Below the range that the kernel hands out by itself, so that no connection takes one of the four meanwhile.
    base = 10_000 + numbers[3] % 20_000
    return {**dict(zip(names, numbers, strict=False)), "METRICS_PORT_BASE": base}


def wait_until(condition: Callable[[], T], seconds_s: float = WAIT_S_MAX) -> T:
    """Polls until the condition holds and returns it; fails when it does not within the time."""
    deadline_s = time.monotonic() + seconds_s
    while not (held := condition()):
        assert time.monotonic() < deadline_s, f"not within {seconds_s} s: {condition}"
        time.sleep(POLL_S)
    return held
