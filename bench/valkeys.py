"""Real Valkeys on ports of their own: with replicas, as a cluster, under sentinels. Each is a child of this process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from runtime.child import launch
from runtime.stores import valkey_binary

READY_WAIT_S_MAX = 30.0


class Valkey:
    """A server on a port of its own, its files under `folder`. `options` are those of its configuration."""

    def __init__(self, folder: Path, port: int = 0, sentinel: bool = False, **options: str) -> None:
        self.port = port or free_port()
        self._folder = folder / str(self.port)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sentinel = sentinel
        self._options = {
            "port": str(self.port), "bind": "127.0.0.1", "dir": str(self._folder), "save": "", "daemonize": "no",
            "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1",
        }  # fmt: skip
        if sentinel:
            self._options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self._folder)}
        self._options |= {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        file = self._folder / "valkey.conf"
        if not file.exists():  # a sentinel writes what it learns into it
            file.write_text(
                "".join(f"{name} {value or chr(34) * 2}\n" for name, value in self._options.items())
            )
        command = [str(valkey_binary()), str(file), *(["--sentinel"] if self._sentinel else [])]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- a command of ours
                launch(command, signal.SIGTERM, None), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self.answers)

    def answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2_000:]
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def client(self) -> redis.Redis:
        """A client that waits, apart from what is measured or tested."""
        return redis.Redis(port=self.port, socket_timeout=5.0, decode_responses=True)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to it."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def started(*servers: Valkey) -> Iterator[None]:
    """All of them, in order; none is left at the end."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


def has_replica(primary: Valkey, count: int = 1) -> bool:
    """Whether so many replicas follow it."""
    with primary.client() as client:
        found = client.info("replication")
    states = [str(found.get(f"slave{n}", {}).get("state")) for n in range(int(found["connected_slaves"]))]
    return states.count("online") >= count


def until(condition: Callable[[], bool], wait_s: float = READY_WAIT_S_MAX) -> None:
    """Waits for what another process does; fails when it takes too long."""
    deadline_s = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"it did not happen within {wait_s:g} s")
        time.sleep(0.02)


def free_port() -> int:
    """A port of this machine that nobody has, below those that the kernel gives out: a cluster's bus takes port + 10,000."""
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        with contextlib.suppress(OSError), socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            if port not in _given:
                _given.add(port)
                return port
    raise OSError("no port is free")


_given: set[int] = set()
