"""One run: load, faults, calm, and the count."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from reco.ingest.v1.ingest_service_pb2 import UpsertItemsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from redis import Redis
from redis.exceptions import RedisError

from bench.chaos import count, leaks, sent, skewed
from bench.chaos.disk import can_mount
from bench.chaos.inflict import Inflictor
from bench.chaos.load import Load
from bench.chaos.report import Report, sample
from bench.chaos.schedule import OURS, Fault, draw
from bench.chaos.system import PARTITION_COUNT, System, running, wait_until
from ingest.stream import SINKS, dead_letters_key, stream_key

DRAIN_WAIT_S_MAX: Final = 600.0  # everything that the stream holds, at the pace of the slowest sink
LOOK_S: Final = 1.0
FRESH_S: Final = (
    8.0  # of load on the processes that are started anew, so that their pools and caches are filled, too
)
READY_WAIT_S_MAX: Final = 60.0
UPSERT_WAIT_S_MAX: Final = 30.0
LOGS: Final = Path(__file__).parent.parent.parent / ".cache" / "chaos-logs"
REDIS_WAIT_S_MAX: Final = 10.0


@dataclass(frozen=True)
class Options:
    """What a run is."""

    seed: int
    seconds: float
    fault_count: int
    rate: float  # events a second
    broken: str = ""  # a build that is wrong on purpose (broken.py)
    looks_for_leaks: bool = True
    durability: str = "always"  # runtime/settings.py


def chaos(options: Options, schedule: Sequence[Fault] | None = None, logs: Path = LOGS) -> Report:
    """A run. TimeoutError when the system does not come to rest. Logs of a run with faults of ours are kept in `logs`."""
    mounts = can_mount()
    faults = list(schedule or draw(options.seed, options.seconds, options.fault_count, disks=mounts))
    with tempfile.TemporaryDirectory(prefix="reco-chaos-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # PostgreSQL's account may enter
        with running(folder, mounts, options.broken, options.durability) as system:
            report = None
            try:
                report = _run(system, options, faults)
            finally:
                if report is None or report.notes:
                    _keep_logs(folder, logs / str(options.seed))
    if not mounts:
        report.notes.append("no disk was filled: mounting one needs root")
    return report


def _run(system: System, options: Options, faults: Sequence[Fault]) -> Report:
    _upsert(system)
    begin_s = int(time.time())
    inflictor, watch = Inflictor(system), Watch(system)
    with loading(system, options, begin_s) as load, watch.watching():
        start_s = time.monotonic()
        inflictor.run(faults, options.seconds, threading.Event())
    took_s = time.monotonic() - start_s
    calm_s = time.monotonic()
    _drained(system)
    report = _report(options, inflictor, load, watch, took_s)
    report.drain_s = round(time.monotonic() - calm_s, 1)
    report.restarts = system.restart_count()
    if options.looks_for_leaks:
        _compare_with_fresh(system, options, begin_s, load, report)
    _count(system, load, begin_s, report)
    return report


def _keep_logs(folder: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for log in folder.rglob("*.log"):
        shutil.copy(log, to / log.name)


def _upsert(system: System) -> None:
    request = UpsertItemsRequest(items=sent.items())
    with grpc.insecure_channel(system.grpc_target) as channel:
        stub: Any = IngestServiceStub(channel)  # type: ignore[arg-type]  # the generated types know asyncio only
        stub.UpsertItems(request, timeout=UPSERT_WAIT_S_MAX, wait_for_ready=True)


@contextmanager
def loading(system: System, options: Options, begin_s: int) -> Iterator[Load]:
    """The load in a thread of its own; at the end it stops, and waits until all that was sent is acknowledged."""
    load = Load(system.grpc_target, system.rest_url, options.rate, begin_s, options.seed)
    with under(load):
        yield load


@contextmanager
def under(load: Load) -> Iterator[None]:
    """A load that runs meanwhile."""
    loop = asyncio.new_event_loop()
    failed: list[BaseException] = []

    def carry_on() -> None:
        try:
            loop.run_until_complete(load.run())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=carry_on, name="load")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(load.stop)
        thread.join()
        loop.close()
    if failed:
        raise failed[0]


class Watch:
    """Adds up counters of processes that begin at nought whenever they are started again."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._last: dict[tuple[str, str], float] = {}
        self._sums: dict[str, float] = defaultdict(float)
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks every LOOK_S meanwhile."""
        thread = threading.Thread(target=self._run, name="watch")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def total(self, name: str) -> int:
        """The sum of a counter over its labels, processes and their lives."""
        return int(sum(value for key, value in self._sums.items() if key.startswith(name)))

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            for process in self._system.metrics_ports:
                for key, value in self._system.counters(process).items():
                    before = self._last.get((process, key), 0.0)
                    self._sums[key] += value - before if value >= before else value
                    self._last[process, key] = value


def _drained(system: System) -> None:
    """Until every sink has acknowledged every entry."""
    with Redis.from_url(system.valkey.url, socket_timeout=REDIS_WAIT_S_MAX) as redis:
        wait_until(lambda: _lag(redis) == 0, DRAIN_WAIT_S_MAX, "the sinks did not take everything")


def _lag(redis: Redis) -> int:
    behind = 0
    try:
        for partition in range(PARTITION_COUNT):
            groups: Any = redis.xinfo_groups(stream_key(partition))
            if len(groups) < len(SINKS):
                return 1
            behind += sum(
                group["pending"] + (1 if group["lag"] is None else group["lag"]) for group in groups
            )
    except (RedisError, OSError):
        return 1
    return behind


def _report(options: Options, inflictor: Inflictor, load: Load, watch: Watch, took_s: float) -> Report:
    return Report(
        seed=options.seed,
        seconds=options.seconds,
        faults=dict(inflictor.counts),
        faults_by_target=dict(inflictor.by_target),
        missed=dict(inflictor.missed),
        restarts=0,
        sent=load.sent_count,
        acknowledged=len(load.acknowledged),
        acknowledged_per_s=round(len(load.acknowledged) / took_s, 1),
        retries=load.retry_count,
        duplicates_removed=load.duplicate_count,
        refusals=dict(load.refusals),
        rejected=sum(load.rejected.values()),
        sink_retries=watch.total("reco_sink_retries_total"),
        dead_letters=0,
        drain_s=0.0,
        late_s_max=round(load.late_s_max, 2),
    )


def _compare_with_fresh(system: System, options: Options, begin_s: int, load: Load, report: Report) -> None:
    """Our processes as they are now, then started anew and put under load for a while."""
    old = {name: leaks.held(pid) for name in OURS if (pid := system.pid(name))}
    for name in OURS:
        _end(system, name)
    for name in OURS:
        wait_until(system.units[name].what.is_ready, READY_WAIT_S_MAX, f"{name} did not start")
    load.begin_anew()
    with under(load):
        threading.Event().wait(FRESH_S)
    _drained(system)
    for name in OURS:
        pid = system.pid(name)
        fresh = leaks.held(pid) if pid else leaks.Held(0, 0)
        report.held[name] = {"old": asdict(old[name]), "fresh": asdict(fresh)}
        if found := leaks.leak(name, old[name], fresh):
            report.notes.append(found)


def _end(system: System, name: str) -> None:
    """Asks it to end, and waits until another one has been started."""
    before = system.pid(name)
    if before is None:
        return

    def is_another() -> bool:
        return system.pid(name) not in (None, before)

    os.kill(before, signal.SIGTERM)
    try:
        wait_until(is_another, READY_WAIT_S_MAX, f"{name} did not end")
    except TimeoutError:
        os.kill(before, skewed.TELL)
        raise


def _count(system: System, load: Load, begin_s: int, report: Report) -> None:
    postgres, by_subject = count.in_postgres(system.postgres.url, begin_s)
    lake = count.in_lake(system.disks["lake"] / "lake", begin_s)
    lost = sorted({number for store in (postgres, lake) for number in store.lost(load.acknowledged)})
    doubled = sorted({number for store in (postgres, lake) for number in store.doubled()})
    report.lost, report.doubled = len(lost), len(doubled)
    report.unacknowledged_but_there = len(set(postgres.counts) - load.acknowledged)
    with Redis.from_url(system.valkey.url, socket_timeout=REDIS_WAIT_S_MAX) as redis:
        wrong = count.wrong_profiles(redis, by_subject)
        report.dead_letters = sum(_length(redis, partition) for partition in range(PARTITION_COUNT))
    report.profiles, report.profiles_wrong = len(by_subject), len(wrong)
    for store in (postgres, lake):
        if missing := store.lost(load.acknowledged):
            report.notes.append(f"{store.name} lacks {len(missing)} acknowledged events: {sample(missing)}")
        if twice := store.doubled():
            report.notes.append(f"{store.name} has {len(twice)} events more than once: {sample(twice)}")
        report.notes += store.wrong
    if strangers := set(lake.counts) ^ set(postgres.counts):
        report.notes.append(
            f"{len(strangers)} events are in one of Postgres and lake alone: {sample(sorted(strangers))}"
        )
    if wrong:
        report.notes.append(f"{len(wrong)} profiles differ from a recount: {', '.join(wrong[:5])}")
    if report.rejected or report.dead_letters:
        report.notes.append(
            f"{report.rejected} events were refused, {report.dead_letters} set aside: none is at fault"
        )
    if load.acknowledged and load.sent_count != len(load.acknowledged):
        report.notes.append(
            f"{load.sent_count - len(load.acknowledged)} events were sent and never acknowledged"
        )


def _length(redis: Redis, partition: int) -> int:
    found: Any = redis.xlen(dead_letters_key(partition))
    return int(found)
