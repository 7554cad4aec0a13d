"""Our processes under the bench: started, pinned, waited for, measured and stopped by their ids."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.supervisor import Process

READY_WAIT_S_MAX = 300.0  # a first start reads a million rows from PostgreSQL and compiles every kernel
POLL_S = 0.02
PROBE_S_MAX = 1.0
KIB = 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class NotReadyError(RuntimeError):
    """A process of ours ended, or did not become ready; its log says why."""


@dataclass(frozen=True)
class Server:
    """A process that answers."""

    pids: list[int]  # the process and its children
    address: str  # host:port
    ready_s: float  # from its start


@contextlib.contextmanager
def started(
    command: Sequence[str],
    folder: Path,
    port: int,
    environment: Mapping[str, str],
    cores: set[int] | None,
    probe: Callable[[str], bool],
    wait_s: float = READY_WAIT_S_MAX,
) -> Iterator[Server]:
    """`python -m COMMAND` on `cores`, when `probe` says so of its address; stopped at the end. Raises NotReadyError."""
    address = f"127.0.0.1:{port}"
    process = Process(command, folder, lambda: probe(address), environment)
    start_s = time.monotonic()
    process.start()
    try:
        pin(process.pid, cores)
        ready_s = _wait(process, start_s, wait_s)
        assert process.pid is not None
        yield Server(family(process.pid), address, ready_s)
    finally:
        process.stop()


def _wait(process: Process, start_s: float, wait_s: float) -> float:
    while not process.is_ready():
        if process.pid is None or time.monotonic() - start_s > wait_s:
            lines = process.log.read_text(errors="replace").splitlines()[-3:]
            raise NotReadyError(f"{process.log} ends with: {' | '.join(lines)}")
        time.sleep(POLL_S)
    return time.monotonic() - start_s


def pin(pid: int | None, cores: set[int] | None) -> None:
    """Keeps a process and the threads that it has and will have on `cores`."""
    if pid is None or cores is None:
        return
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    found += family(int(child))
    return found


def resident_bytes(pids: list[int]) -> int:
    """What the processes have in memory, pages that they share counted in each."""
    return sum(_rollup(pid, "Rss") for pid in pids)


def roughly_resident_bytes(pids: list[int]) -> int:
    """The same from the kernel's counters, some pages off: counting exactly keeps a large process from its page faults for 10 ms."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES for pid in pids)


def proportional_bytes(pids: list[int]) -> int:
    """What the processes have in memory, a page that k processes share counted as a k-th in each."""
    return sum(_rollup(pid, "Pss") for pid in pids)


def _rollup(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * KIB
    raise OSError(f"/proc/{pid}/smaps_rollup has no {name}")


def free_port(count: int = 1) -> int:
    """A port that nobody has now, with `count - 1` free ones behind it."""
    while True:
        with contextlib.ExitStack() as stack:
            port = _bound(stack, 0)
            with contextlib.suppress(OSError, OverflowError):
                for after in range(1, count):
                    _bound(stack, port + after)
                return port


def _bound(stack: contextlib.ExitStack, port: int) -> int:
    found = stack.enter_context(socket.socket())
    found.bind(("127.0.0.1", port))
    return int(found.getsockname()[1])


def serves(address: str) -> bool:
    """Whether a gRPC server says that it serves."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=PROBE_S_MAX
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def answers(path: str) -> Callable[[str], bool]:
    """A probe: whether an HTTP server answers 200 at `path`."""

    def probe(address: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=PROBE_S_MAX) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return probe
