"""The whole system over a data set: embedded stores, filled once and kept, and the product's own processes on named cores.

python -m bench.system --items 50000          # starts it, says where it listens, stops with Ctrl-C
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

import bench.data
from bench import loading, trending
from bench.options import CACHE, Options, add_arguments, given
from bench.processes import NotReadyError, Server, answers, family, free_port, pin, serves, started
from runtime.errors import RecoError
from runtime.settings import Settings, load_settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey

METRICS_PORTS = 4
SNAPSHOT = (
    Path(".catalogue") / "manifest.json"
)  # what serving writes beside the models (serving/catalogue_file.py)
SNAPSHOT_WAIT_S_MAX = 180.0
REWRITE_WAIT_S_MAX = 120.0


class System:
    """Stores that run and are full. Use `running`."""

    def __init__(
        self, options: Options, settings: Settings, valkey: EmbeddedValkey, postgres: EmbeddedPostgres
    ) -> None:
        self.options = options
        self.settings = settings
        self.dataset = bench.data.load(options)
        self._valkey, self._postgres = valkey, postgres
        self._count = 0

    @property
    def valkey_pids(self) -> list[int]:
        """The store that answers profiles."""
        return [self._valkey.pid] if self._valkey.pid else []

    @property
    def postgres_pids(self) -> list[int]:
        """The record of truth, with a process for each connection."""
        return family(self._postgres.pid) if self._postgres.pid else []

    def pin_valkey(self, cores: set[int]) -> None:
        """Moves the store that answers profiles."""
        pin(self._valkey.pid, cores)

    @contextlib.contextmanager
    def serving(self, cores: set[int] | None, **environment: str) -> Iterator[Server]:
        """One more serving process, ready."""
        port = free_port()
        own = _environment(self.settings) | {"RECO_RANKING_PORT": str(port)} | environment
        with started(["serving"], self.log_folder("serving"), port, own, cores, serves) as server:
            yield server

    @contextlib.contextmanager
    def ingest(self, cores: set[int] | None) -> Iterator[Server]:
        """The ingest server: what items go through."""
        port = free_port()
        own = _environment(self.settings) | {"RECO_INGEST_PORT": str(port)}
        with started(["ingest"], self.log_folder("ingest"), port, own, cores, serves) as server:
            yield server

    @contextlib.contextmanager
    def gateway(self, target: Server, cores: set[int] | None) -> Iterator[Server]:
        """The REST gateway before a serving process."""
        port = free_port()
        own = {"RECO_GATEWAY_PORT": str(port), "RECO_RANKING_TARGET": target.address}
        # Not /readyz: that asks for the ingest service, too, which is not started here.
        folder, probe = self.log_folder("gateway"), answers("/healthz")
        with started(["gateway"], folder, port, _environment(self.settings) | own, cores, probe) as server:
            yield server

    def log_folder(self, name: str) -> Path:
        """A folder beside which one more process may write its log."""
        self._count += 1
        return self.settings.data_dir / "processes" / f"{name}-{self._count}"

    def wait_for_snapshot(self) -> bool:
        """Whether the catalogue's file, which a start maps, is there; waits while a serving process writes it."""
        path, deadline_s = self.settings.models_dir / SNAPSHOT, time.monotonic() + SNAPSHOT_WAIT_S_MAX
        while not path.exists() and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return path.exists()

    def pause_redis(self, ms: int) -> None:
        """From now on the store of profiles takes no command for `ms`; returns at once."""
        with self.redis() as redis:
            redis.execute_command("CLIENT", "PAUSE", ms, "ALL")

    def redis(self) -> Redis:
        """A client of the store of profiles."""
        return Redis.from_url(self.settings.redis_url, socket_timeout=loading.REDIS_WAIT_S_MAX)


@contextlib.contextmanager
def running(options: Options, cache: Path = CACHE) -> Iterator[System]:
    """The stores of a data set, full; stopped at the end, their data stays."""
    bench.data.make(options, cache)
    folder = options.folder(cache) / f"system-{loading.source_digest(loading.STORED_BY)}"
    for old in set(folder.parent.glob("system-*")) - {folder}:
        shutil.rmtree(old, ignore_errors=True)  # filled by other code
    valkey, postgres = EmbeddedValkey(folder), EmbeddedPostgres(folder)
    try:
        redis_url, postgres_url = valkey.start(), postgres.start()
        settings = load_settings(data_dir=folder, redis_url=redis_url, postgres_url=postgres_url)
        dataset = bench.data.load(options, cache)
        loading.load(dataset, settings)
        trending.fill(dataset, redis_url)
        with Redis.from_url(redis_url, socket_timeout=loading.REDIS_WAIT_S_MAX) as redis:
            _settle(redis)
        yield System(options, settings, valkey, postgres)
    finally:
        postgres.stop()
        valkey.stop()


def _settle(redis: Redis) -> None:
    """Waits until the store no longer rewrites its log, which would take its core from the calls."""
    deadline_s = time.monotonic() + REWRITE_WAIT_S_MAX
    while time.monotonic() < deadline_s:
        info = redis.info("persistence")
        if not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]):
            return
        time.sleep(0.1)


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "RECO_DATA_DIR": str(settings.data_dir),
        "RECO_REDIS_URL": settings.redis_url,
        "RECO_POSTGRES_URL": settings.postgres_url,
        "RECO_METRICS_PORT_BASE": str(free_port(METRICS_PORTS)),
        "RECO_LOG_LEVEL": "warning",
        "PYTHONUNBUFFERED": "1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    options, _ = given(parser)
    try:
        _show(options, stop)
    except (RecoError, NotReadyError) as error:
        parser.exit(1, f"bench: {error}\n")


def _show(options: Options, stop: threading.Event) -> None:
    with running(options) as system, system.serving(None) as server, system.gateway(server, None) as gateway:
        print(f"gRPC {server.address} REST http://{gateway.address}: users user-0000000 and on", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
