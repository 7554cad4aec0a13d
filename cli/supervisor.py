"""Keeps the stores and the five processes running: start in order, start again what dies, stop all in reverse."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reco.errors.v1 import error_reason_pb2

from runtime.child import Child
from runtime.errors import StateError
from runtime.settings import Settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey

TICK_S = 0.1  # how soon a death is noticed
BACKOFF_S_MIN = 0.2  # before the first restart
ENV = "/usr/bin/env"
BACKOFF_S_MAX = 5.0  # a process that dies at once is tried again at this pace, for as long as it takes
STEADY_S = 30.0  # one that lived so long starts again without delay
PROBE_S_MAX = 1.0
READY_S_MAX = 180.0  # a first start compiles every kernel: half a minute on two busy cores


class Managed(Protocol):
    """What the supervisor starts and stops; the embedded stores are such."""

    @property
    def pid(self) -> int | None: ...
    def start(self) -> object: ...
    def stop(self) -> None: ...
    def is_ready(self) -> bool: ...


class Process:
    """One of our own processes: `python -m COMMAND` with `environment` over ours, its log beside `folder`. It ends when we do."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        probe: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        changed = [ENV, *(f"{name}={value}" for name, value in environment.items())] if environment else []
        self._command = [*changed, sys.executable, "-m", *command]
        self._probe = probe
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._child = Child(folder, folder.with_suffix(".log"), signal.SIGTERM, None)
        self.log = folder.with_suffix(".log")

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def start(self) -> None:
        self._child.start(self._command)

    def stop(self) -> None:
        self._child.stop()

    def is_ready(self) -> bool:
        return self.pid is not None and self._probe()


@dataclass
class Unit:
    """A managed thing and what became of it."""

    name: str
    what: Managed
    started_s: float = 0.0
    restart_s: float = 0.0  # not before this
    backoff_s: float = BACKOFF_S_MIN
    restart_count: int = field(default=0)


class Supervisor:
    """Owns the units, from the thread that made it: the kernel ends a child when the thread that started it ends."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = list(units)
        self._log = structlog.get_logger()

    def start(self, stop: threading.Event) -> None:
        """Starts every unit, in order, without waiting for those that only need time."""
        for unit in self._units:
            if stop.is_set():
                return
            unit.what.start()
            unit.started_s = time.monotonic()

    def wait_ready(self, stop: threading.Event) -> None:
        """Waits until every unit answers, looking after them meanwhile. StateError names the ones that don't."""
        deadline_s = time.monotonic() + READY_S_MAX
        waiting = self._units
        while waiting := [unit for unit in waiting if not unit.what.is_ready()]:
            if stop.wait(TICK_S):
                return
            self.look_after(time.monotonic())
            if time.monotonic() > deadline_s:
                names = ", ".join(unit.name for unit in waiting)
                message = f"{names} did not become ready within {READY_S_MAX:.0f} s; see the logs in the data folder"
                raise StateError(error_reason_pb2.ERROR_REASON_INTERNAL, message)

    def run(self, stop: threading.Event) -> None:
        """Looks after the units until `stop`."""
        while not stop.wait(TICK_S):
            self.look_after(time.monotonic())

    def look_after(self, now_s: float) -> None:
        """Starts again what has died, after a pause that grows to BACKOFF_S_MAX. `now_s` is of a monotonic clock."""
        for unit in self._units:
            if unit.what.pid is None:
                self._restart(unit, now_s)

    def _restart(self, unit: Unit, now_s: float) -> None:
        if not unit.restart_s:
            if now_s - unit.started_s > STEADY_S:
                unit.backoff_s = BACKOFF_S_MIN
            unit.restart_s = now_s + unit.backoff_s
            unit.backoff_s = min(unit.backoff_s * 2, BACKOFF_S_MAX)
            self._log.warning(
                "died, will be started again", unit=unit.name, wait_s=round(unit.restart_s - now_s, 1)
            )
        if now_s < unit.restart_s:
            return
        unit.restart_s, unit.started_s = 0.0, now_s
        unit.restart_count += 1
        try:
            unit.what.start()
        except (StateError, OSError) as error:
            self._log.error("did not start", unit=unit.name, error=str(error))

    def stop(self) -> None:
        """Stops every unit, the last started first."""
        for unit in reversed(self._units):
            unit.what.stop()


def make_units(
    settings: Settings, valkey: EmbeddedValkey | None, postgres: EmbeddedPostgres | None
) -> tuple[list[Unit], list[Unit]]:
    """The embedded stores, and the five processes (consumers may be several), each in the order of starting."""
    stores = [Unit("valkey", valkey)] if valkey else []
    stores += [Unit("postgres", postgres)] if postgres else []
    folder = settings.data_dir.resolve() / "processes"
    base, host = settings.metrics_port_base, settings.host

    def unit(name: str, module: str, probe: Callable[[], bool]) -> Unit:
        return Unit(name, Process([module], folder / name, probe))

    def consumer(index: int) -> Unit:
        name = f"consumer-{index + 1}" if index else "consumer"
        url = f"http://{host}:{base + (50 + index if index else 1)}/metrics"  # as in ingest/consumer_main.py
        changed = {"RECO_CONSUMER_INDEX": str(index)}
        return Unit(name, Process(["ingest.consumer_main"], folder / name, lambda: _answers(url), changed))

    return stores, [
        unit("ingest", "ingest", lambda: _serves(f"{host}:{settings.ingest_port}")),
        *(consumer(index) for index in range(settings.consumer_processes)),
        unit("ranking", "serving", lambda: _serves(f"{host}:{settings.ranking_port}")),
        unit("worker", "training.worker", lambda: _answers(f"http://{host}:{base + 3}/metrics")),
        unit("gateway", "gateway", lambda: _answers(f"http://{host}:{settings.gateway_port}/readyz")),
    ]


def _serves(address: str) -> bool:
    """Whether the gRPC server says that it serves."""
    with grpc.insecure_channel(address) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_S_MAX)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _answers(url: str) -> bool:
    """Whether the URL answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_S_MAX) as answer:  # noqa: S310 -- our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def check_ports(settings: Settings) -> None:
    """StateError when a port that a process will need is taken; says which setting moves it."""
    base = settings.metrics_port_base
    wanted = {
        settings.gateway_port: "RECO_GATEWAY_PORT",
        settings.ingest_port: "RECO_INGEST_PORT",
        settings.ranking_port: "RECO_RANKING_PORT",
    }
    further = range(base + 11, base + 10 + settings.ranking_processes)  # as in serving/__main__.py
    consumers = range(base + 51, base + 50 + settings.consumer_processes)  # as in ingest/consumer_main.py
    wanted |= dict.fromkeys((*range(base, base + 4), *further, *consumers), "RECO_METRICS_PORT_BASE")
    for port, name in wanted.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                message = f"port {port} on {settings.host} can't be used ({error.strerror}); choose another with {name}"
                raise StateError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message) from None


def give_to_children(settings: Settings) -> None:
    """Puts the stores' URLs into the environment that our children inherit."""
    os.environ["RECO_REDIS_URL"] = settings.redis_url
    os.environ["RECO_POSTGRES_URL"] = settings.postgres_url
