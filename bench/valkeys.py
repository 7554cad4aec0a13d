"""Real Valkeys on ports of their own: with replicas, as a cluster, under sentinels. Each is a child of this process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

    def configure(self, *lines: str) -> Path:
        """Writes its file where there is none yet: a sentinel writes what it learns into it."""
        file = self._folder / "valkey.conf"
        if not file.exists():
            known = [f"{name} {value or chr(34) * 2}" for name, value in self._options.items()]
            file.write_text("\n".join([*known, *lines, ""]))
        return file

    def start(self) -> None:
        """Starts it and waits until it answers."""
        file = self.configure()
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


SLOTS = 16_384


@contextlib.contextmanager
def cluster(folder: Path, replica_count: int = 0, **options: str) -> Iterator[list[Valkey]]:
    """Three primaries that share the slots, and so many replicas of each behind them in the list."""
    known = {"cluster_enabled": "yes", "cluster_node_timeout": "1000", **options}
    nodes = [Valkey(folder, **known) for _ in range(3 * (1 + replica_count))]  # type: ignore[arg-type]  # options by name
    with started(*nodes):
        ids = [_call(node, "CLUSTER", "MYID") for node in nodes]
        for n, node in enumerate(nodes[:3]):
            _call(node, "CLUSTER", "ADDSLOTSRANGE", SLOTS * n // 3, SLOTS * (n + 1) // 3 - 1)
        for n, node in enumerate(nodes):
            _call(node, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in nodes[1:]:
            _call(nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port)
        until(lambda: all(set(ids) <= _ids_known(node) for node in nodes))
        for n, node in enumerate(nodes[3:]):
            _call(node, "CLUSTER", "REPLICATE", ids[n % 3])
        until(lambda: all("cluster_state:ok" in _raw(node, "CLUSTER", "INFO") for node in nodes))
        until(lambda: all(has_replica(node, replica_count) for node in nodes[:3]))
        yield nodes


def cluster_url(nodes: list[Valkey]) -> str:
    """The URL of a cluster, by its primaries."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes[:3])


@dataclass(frozen=True)
class Watched:
    """A primary, its replicas, and the sentinels that watch them."""

    primary: Valkey
    replicas: list[Valkey]
    sentinels: list[Valkey]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{places}/shop"


@contextlib.contextmanager
def watched(folder: Path, replica_count: int = 1, **options: str) -> Iterator[Watched]:
    """Under three sentinels of which two must agree; they name the primary `shop`."""
    primary = Valkey(folder, **options)  # type: ignore[arg-type]  # options by name
    of = f"127.0.0.1 {primary.port}"
    replicas = [Valkey(folder, replicaof=of, **options) for _ in range(replica_count)]  # type: ignore[arg-type]
    sentinels = [Valkey(folder, sentinel=True) for _ in range(3)]
    for sentinel in sentinels:
        sentinel.configure(
            f"sentinel monitor shop 127.0.0.1 {primary.port} 2", "sentinel down-after-milliseconds shop 800",
            "sentinel failover-timeout shop 3000",
        )  # fmt: skip
    with started(primary, *replicas):
        until(lambda: has_replica(primary, replica_count))
        with started(*sentinels):
            until(lambda: all(_sees_all(sentinel, replica_count) for sentinel in sentinels))
            yield Watched(primary, replicas, sentinels)


def _sees_all(sentinel: Valkey, replica_count: int) -> bool:
    with sentinel.client() as client:
        state = client.sentinel_master("shop")
    return int(state["num-slaves"]) == replica_count and int(state["num-other-sentinels"]) == 2


def _call(node: Valkey, *command: str | int) -> str:
    with node.client() as client:
        return str(client.execute_command(*command))


def _raw(node: Valkey, *command: str) -> str:
    with node.client() as client:
        client.response_callbacks.clear()
        return str(client.execute_command(*command))


def _ids_known(node: Valkey) -> set[str]:
    """Those that it is connected to, and itself."""
    rows = [line.split() for line in _raw(node, "CLUSTER", "NODES").splitlines()]
    return {row[0] for row in rows if "handshake" not in row[2]}


def has_replica(primary: Valkey, count: int = 1) -> bool:
    """Whether so many replicas follow it."""
    with primary.client() as client:
        found = client.info("replication")
    states = [str(found.get(f"slave{n}", {}).get("state")) for n in range(int(found["connected_slaves"]))]
    return states.count("online") >= count


def has_all(primary: Valkey) -> bool:
    """Whether its replicas have confirmed all that was written to it."""
    with primary.client() as client:
        found = client.info("replication")
    replicas = [found[f"slave{n}"] for n in range(int(found["connected_slaves"]))]
    return all(int(replica["offset"]) >= int(found["master_repl_offset"]) for replica in replicas)


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
