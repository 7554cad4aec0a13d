"""How many events a second come in and reach each sink, beside what the stream's store takes bare; and how long one event takes.

Stores of its own, `everysec`. Ingest, and then the consumer, have one core; the generator and Valkey have the other.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from reco.ingest.v1.ingest_service_pb2 import UpsertItemsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from reco.ingest.v1.item_pb2 import Item
from redis import Redis

from bench import shares
from bench.ingest_load import ITEM_COUNT, PIPELINE
from bench.processes import Server, family, free_port, pin, serves, started
from bench.scenarios.context import Found, output_of
from ingest.stream import SINKS, stream_key
from runtime.stores import EmbeddedPostgres, EmbeddedValkey

PARTITION_COUNT = 4
BATCH_EVENTS = 100
UPSERT_ITEMS = 1_000
UPSERT_WAIT_S_MAX = 30.0
RUN_WAIT_S_MAX = 300.0
POLL_S = 0.01
US = 1e6
SINGLE_RATE = 500.0
REDIS_WAIT_S_MAX = 10.0


@dataclass(frozen=True)
class Size:
    """How much of it."""

    events: int = 300_000  # of a run that is timed
    rounds: int = 3
    single_s: float = 20.0


FULL, QUICK, TINY = Size(), Size(100_000, 1, 5.0), Size(2_000, 1, 1.0)


@dataclass
class Stage:
    """Stores that are full of items, and where what runs."""

    folder: Path
    valkey: EmbeddedValkey
    postgres: EmbeddedPostgres
    redis: Redis
    own_core: int
    load_core: int

    def environment(self) -> dict[str, str]:
        """Of our processes."""
        return {
            "RECO_DATA_DIR": str(self.folder), "RECO_REDIS_URL": self.valkey.url, "RECO_POSTGRES_URL": self.postgres.url,
            "RECO_DURABILITY": "everysec", "RECO_PARTITION_COUNT": str(PARTITION_COUNT), "RECO_LOG_LEVEL": "warning",
            "RECO_METRICS_PORT_BASE": str(free_port(4)),
        }  # fmt: skip

    def load(self, mode: str, target: str, **options: float) -> dict[str, Any]:
        """A run of the generator on its core."""
        command = ["bench.ingest_load", mode, "--target", target, "--core", str(self.load_core)]
        command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        found: dict[str, Any] = json.loads(output_of(command, RUN_WAIT_S_MAX))
        return found

    def ours(self) -> dict[str, list[int]]:
        """The stores' processes, to tell others' work."""
        stores = {"valkey": self.valkey.pid, "postgres": self.postgres.pid}
        return {name: family(pid) for name, pid in stores.items() if pid}


def ingest(own_core: int, load_core: int, size: Size = FULL) -> Found:
    """Everything, in turn."""
    with stage(own_core, load_core) as on:
        accepted, single = _ways_in(on, size)
        sinks = {sink: _drained(on, sink) for sink in SINKS}
    rate = statistics.median(each["ingest"]["events_s"] for each in accepted)
    metrics = {
        "ingest_events_s": rate,
        "ingest_over_xadd": statistics.median(
            each["ingest"]["events_s"] / each["xadd"]["events_s"] for each in accepted
        ),
        "write_event_ms_p99": statistics.median(each["latency_ms"]["p99"] for each in single),
        **{f"sink_{sink}_events_s": found["events_s"] for sink, found in sinks.items()},
    }
    return Found(metrics, {"rounds": accepted, "single": single, "sinks": sinks})


def _ways_in(on: Stage, size: Size) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rounds of bare XADDs and batches in turn, then single events; the stream keeps the batches for the sinks."""
    with _ingest(on) as server:
        _upsert(server)
        rounds = [_round(on, server, size) for _ in range(size.rounds)]
        single = [
            on.load("singles", server.address, rate=SINGLE_RATE, seconds=size.single_s)
            for _ in range(size.rounds)
        ]
    return rounds, single


def _round(on: Stage, server: Server, size: Size) -> dict[str, Any]:
    xadd = on.load("xadds", on.valkey.url, count=size.events // PIPELINE)
    watched = {"ingest": server.pids, **on.ours()}
    first = shares.snapshot(watched)
    found = on.load("batches", server.address, count=size.events // BATCH_EVENTS, batch=BATCH_EVENTS)
    machine: dict[str, Any] = shares.between(
        first, shares.snapshot(watched), {"load": found["generator_cpu_share"]}
    )
    return {"xadd": xadd, "ingest": found, "machine": {"used": machine["used"]}}


def _drained(on: Stage, sink: str) -> dict[str, Any]:
    """One sink alone with all that the stream holds: events a second from its first read to its last acknowledgement."""
    idle_s, idle = 0.0, shares.snapshot({})

    def has_begun(_: str) -> bool:
        nonlocal idle_s, idle
        if _read(on, sink):
            return True
        idle_s, idle = time.perf_counter(), shares.snapshot(on.ours())
        return False

    folder = on.folder / "processes" / sink
    command = ["bench.one_sink", sink]
    with started(command, folder, free_port(), on.environment(), {on.own_core}, has_begun) as server:
        while _left(on, sink):
            if time.perf_counter() - idle_s > RUN_WAIT_S_MAX:
                raise RuntimeError(f"the sink {sink} did not take everything within {RUN_WAIT_S_MAX:g} s")
            time.sleep(POLL_S)
        took_s = time.perf_counter() - idle_s
        used = shares.snapshot({"consumer": server.pids, **on.ours()}).used_s
        events = _read(on, sink)
    stores = {f"{name}_us": (used[name] - idle.used_s.get(name, 0.0)) / events * US for name in on.ours()}
    # A consumer's start is in its own: some 1 s that a long run does not show.
    cost = {"consumer_us": used["consumer"] / events * US, **stores}
    return {"events": events, "seconds": took_s, "events_s": events / took_s, "cpu_an_event": cost}


def _groups(on: Stage, sink: str) -> Iterator[Any]:
    for partition in range(PARTITION_COUNT):
        groups: Any = on.redis.xinfo_groups(stream_key(partition))
        yield from (group for group in groups if group["name"].decode() == sink)


def _read(on: Stage, sink: str) -> int:
    return sum(group["entries-read"] or 0 for group in _groups(on, sink))


def _left(on: Stage, sink: str) -> int:
    return sum(group["pending"] + (group["lag"] or 0) for group in _groups(on, sink))


def _upsert(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = IngestServiceStub(channel)  # type: ignore[arg-type]  # the generated types know asyncio only
        for start in range(0, ITEM_COUNT, UPSERT_ITEMS):
            items = [Item(id=f"item-{i}", title=f"Item {i}") for i in range(start, start + UPSERT_ITEMS)]
            stub.UpsertItems(UpsertItemsRequest(items=items), timeout=UPSERT_WAIT_S_MAX)


@contextlib.contextmanager
def _ingest(on: Stage) -> Iterator[Server]:
    port = free_port()
    environment = on.environment() | {"RECO_INGEST_PORT": str(port)}
    with started(
        ["ingest"], on.folder / "processes" / "ingest", port, environment, {on.own_core}, serves
    ) as server:
        yield server


@contextlib.contextmanager
def stage(own_core: int, load_core: int) -> Iterator[Stage]:
    """Stores of a run; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="reco-bench-"))
    folder.chmod(0o755)  # PostgreSQL's account may enter
    valkey, postgres = EmbeddedValkey(folder), EmbeddedPostgres(folder)
    try:
        postgres.start()
        with Redis.from_url(valkey.start(), socket_timeout=REDIS_WAIT_S_MAX) as redis:
            redis.config_set("appendfsync", "everysec")
            pin(valkey.pid, {load_core})
            yield Stage(folder, valkey, postgres, redis, own_core, load_core)
    finally:
        postgres.stop()
        valkey.stop()
        shutil.rmtree(folder, ignore_errors=True)
