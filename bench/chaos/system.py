"""The system under faults: the real stores, ingest, two consumers and the gateway, each behind a proxy, started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import urlopen

from bench.chaos import broken as wrong
from bench.chaos import skewed
from bench.chaos.disk import disk
from bench.chaos.proxy import Proxy
from bench.chaos.schedule import LINKS
from bench.processes import answers, family, free_port, serves
from cli.supervisor import Process, Supervisor, Unit
from runtime.stores import POSTGRES_PORT, EmbeddedPostgres, EmbeddedValkey

PARTITION_COUNT = 4
METRICS_WAIT_S_MAX = 2.0
METRICS_PORTS = 4  # from a base on
PORTS = ("ingest", "ingest-metrics", "gateway", "consumer-1", "consumer-2")
POSTGRES_URL = "postgresql://postgres@127.0.0.1:{port}/reco?sslmode=disable&gssencmode=disable"


@dataclass
class System:
    """What runs. Use `running`."""

    folder: Path
    disks: Mapping[str, Path]
    durability: str
    valkey: EmbeddedValkey
    postgres: EmbeddedPostgres
    loop: asyncio.AbstractEventLoop  # of the proxies
    proxies: dict[str, Proxy] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)  # of consumers: the base of their metrics' ports

    @property
    def rest_url(self) -> str:
        """Where callers find the gateway."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    @property
    def metrics_ports(self) -> dict[str, int]:
        """Where counters are told, by process."""
        consumers = {name: self.ports[name] + 1 for name in ("consumer-1", "consumer-2")}
        return {"ingest": self.ports["ingest-metrics"], **consumers}

    @property
    def grpc_target(self) -> str:
        """Where callers find ingest: behind a proxy."""
        return f"127.0.0.1:{self.proxies['caller-ingest'].port}"

    def pid(self, name: str) -> int | None:
        """A process that lives now."""
        return self.units[name].what.pid

    def pids(self, name: str) -> list[int]:
        """It and its children."""
        pid = self.pid(name)
        return family(pid) if pid else []

    def restart_count(self) -> int:
        """How often something was started again."""
        return sum(unit.restart_count for unit in self.units.values())

    def skew(self, name: str, seconds: float) -> None:
        """Makes its clock wrong."""
        skewed.write_offset(self.folder / f"{name}.skew", seconds)

    def counters(self, name: str) -> dict[str, float]:
        """Its counters now, by name and labels; none when it does not answer."""
        try:
            with urlopen(
                f"http://127.0.0.1:{self.metrics_ports[name]}/metrics", timeout=METRICS_WAIT_S_MAX
            ) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        pairs = (line.rsplit(" ", 1) for line in lines if "_total" in line and not line.startswith("#"))
        return {key: float(value) for key, value in pairs}


@contextlib.contextmanager
def running(folder: Path, mounts: bool, broken: str = "", durability: str = "always") -> Iterator[System]:
    """Everything, ready. `broken`: some are the build of that name (broken.py). `durability`: always or everysec."""
    with contextlib.ExitStack() as stack:
        disks = {
            name: stack.enter_context(disk(folder, name, mounts)) for name in ("lake", "valkey", "postgres")
        }
        loop = stack.enter_context(_loop())
        valkey, postgres = EmbeddedValkey(disks["valkey"], durability), EmbeddedPostgres(disks["postgres"])
        system = System(folder, disks, durability, valkey, postgres, loop)
        system.ports = {name: free_port(METRICS_PORTS) for name in PORTS}
        _add_proxies(system, stack)
        _add_units(system, broken)
        stack.enter_context(_kept(system))
        yield system


def _add_proxies(system: System, stack: contextlib.ExitStack) -> None:
    targets = {
        "valkey": unquote(system.valkey.url.removeprefix("unix://")),
        "postgres": _postgres_socket(system.postgres.url),
    }
    targets["ingest"] = f"127.0.0.1:{system.ports['ingest']}"
    for link in LINKS:
        proxy = system.proxies[link] = Proxy(free_port(), targets[link.rpartition("-")[2]])
        _wait_for(proxy.start(), system)
        stack.callback(_stop, proxy, system)


def _stop(proxy: Proxy, system: System) -> None:
    _wait_for(proxy.stop(), system)


def _wait_for(what: Coroutine[Any, Any, None], system: System) -> None:
    asyncio.run_coroutine_threadsafe(what, system.loop).result()


def _add_units(system: System, broken: str) -> None:
    system.units = {"valkey": Unit("valkey", system.valkey), "postgres": Unit("postgres", system.postgres)}
    ports = system.ports
    ingest = {"RECO_INGEST_PORT": str(ports["ingest"])}
    gateway = {"RECO_GATEWAY_PORT": str(ports["gateway"]), "RECO_INGEST_TARGET": system.grpc_target}
    parts: dict[str, tuple[str, dict[str, str], Callable[[], bool]]] = {
        "ingest": ("ingest", ingest, partial(serves, f"127.0.0.1:{ports['ingest']}")),
        "consumer-1": ("ingest.consumer_main", {}, partial(_tells, ports["consumer-1"] + 1)),
        "consumer-2": ("ingest.consumer_main", {}, partial(_tells, ports["consumer-2"] + 1)),
        "gateway": ("gateway", gateway, partial(answers("/healthz"), f"127.0.0.1:{ports['gateway']}")),
    }
    bent = wrong.HOW[broken].units if broken else ()
    for name, (module, own, probe) in parts.items():
        system.skew(name, 0.0)
        command = ["bench.chaos.broken", broken, module] if name in bent else ["bench.chaos.skewed", module]
        process = Process(
            command, system.folder / "processes" / name, probe, _environment(system, name) | own
        )
        system.units[name] = Unit(name, process)


def _tells(port: int) -> bool:
    return answers("/metrics")(f"127.0.0.1:{port}")


def _environment(system: System, name: str) -> dict[str, str]:
    """Of one of our processes: stores behind proxies of its own kind, a clock that can be bent."""
    kind = "consumer" if name.startswith("consumer") else "ingest"
    postgres = system.proxies[f"{kind}-postgres"].port
    return {
        "RECO_DATA_DIR": str(system.folder), "RECO_LAKE_URL": str(system.disks["lake"] / "lake"),
        "RECO_REDIS_URL": f"redis://127.0.0.1:{system.proxies[f'{kind}-valkey'].port}",
        "RECO_POSTGRES_URL": POSTGRES_URL.format(port=postgres), "RECO_DURABILITY": system.durability, "RECO_PARTITION_COUNT": str(PARTITION_COUNT),
        "RECO_METRICS_PORT_BASE": str(system.ports.get(f"{name}-metrics", system.ports[name])),
        "RECO_LOG_LEVEL": "warning", "PYTHONUNBUFFERED": "1", skewed.ENV: str(system.folder / f"{name}.skew"),
        "PYTHONPATH": os.environ.get("PYTHONPATH", f".{os.pathsep}gen"),
    }  # fmt: skip


@contextlib.contextmanager
def _kept(system: System) -> Iterator[None]:
    """Everything started, and started again, by one thread: the kernel ends a child when the thread that started it ends."""
    stop, ready = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def keep() -> None:
        supervisor = Supervisor(list(system.units.values()))
        try:
            supervisor.start(stop)
            supervisor.wait_ready(stop)
            ready.set()
            supervisor.run(stop)
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()
            supervisor.stop()

    thread = threading.Thread(target=keep, name="supervisor")
    thread.start()
    try:
        ready.wait()
        if failed:
            raise failed[0]
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def wait_until(what: Callable[[], Any], wait_s: float, why: str) -> None:
    """Polls; TimeoutError with `why` when it takes longer."""
    deadline_s = time.monotonic() + wait_s
    while not what():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{why} within {wait_s:g} s")
        time.sleep(0.05)


def _postgres_socket(url: str) -> str:
    [folder] = parse_qs(urlsplit(url).query)["host"]
    return f"{folder}/.s.PGSQL.{POSTGRES_PORT}"
