"""What a whole request costs on the real engine: servers, threads, transports, and the price of telling the times.

    PYTHONPATH=.:gen python -m bench.edge_engine --items 50000

Each way is a process with an engine of its own over the same full stores; they take turns, one at a time, and CPU is the
process's own (rusage), which holds on a shared machine where times do not. docs/decisions/0009-serving-edge.md has the table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import uvloop
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest
from redis import BlockingConnectionPool, Redis

from bench.edge import cpu_s
from bench.generate.attributes import user_id
from bench.options import add_arguments, from_arguments
from bench.system import running as system_running
from profiles.codec import decode
from profiles.store import profile_key
from profiles.subjects import subject_of
from runtime import rpc
from runtime.settings import Settings
from serving import service
from serving.answers import count_degradations
from serving.effort import Budget
from serving.engine import Engine
from serving.pipeline import recommend
from serving.server import running as serving_running
from serving.stopwatch import STAGES, Stopwatch

KINDS = ("aio", "sync", "native")
ROUNDS, CALLS = 4, 600
PAIRS = 40  # of calls with and without times
CALLERS = (1, 16)
THREADS = 4  # of the sync server
CALL_S = 1.0  # that a call has
PATH = "/bench.Edge/"
LABELS = {
    "aio": "grpc.aio, one process", "sync": f"sync grpcio, {THREADS} threads, a lock around the engine",
    "native": "pygrpc-native, aio",
}  # fmt: skip
Call = Callable[[Any, Any], Any]


class Quiet:
    """A call's context that sends no times."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Nothing is sent."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class NoWatch(Stopwatch):
    """Takes no times."""

    def __init__(self) -> None:
        pass

    def lap(self, stage: str) -> None:
        """Nothing is noted."""


class ReadBefore:
    """In the profile reader's place: the profile was read already, by a thread."""

    def __init__(self, value: Any) -> None:
        self._value = value

    async def read(self, asker: Any, deadline_s: float) -> tuple[Any, list[Any]]:
        """What `ProfileReader.read` answers."""
        return decode(self._value), []


def calls(engine: Engine) -> dict[str, Call]:
    """The product's own way, the same without telling times, and the process's CPU."""
    whole = rpc._wrap("Recommend", service.RankingService(engine).Recommend, _Unary)

    async def without(request: Any, context: Any) -> Any:
        answer = await recommend(request, engine, service.budget_of(context), NoWatch())
        count_degradations(answer.degradations)
        return answer.body

    bare = rpc._wrap("Recommend", without, _Unary)

    async def untimed(request: Any, context: Any) -> bytes:
        return await bare(request, Quiet(context))

    async def used(_: Any, __: Any) -> bytes:
        return str(cpu_s()).encode()

    return {"Recommend": whole, "Untimed": untimed, "Used": used}


class _Unary:
    """What `_wrap` asks of a handler: the answers are bytes already."""

    request_streaming = False
    response_serializer = staticmethod(lambda answer: answer)


def threaded_calls(engine: Engine, url: str) -> dict[str, Call]:
    """The same request in a thread: the profile by the sync client, then the engine, one thread at a time."""
    pool = BlockingConnectionPool.from_url(url, max_connections=THREADS)
    redis, turn = Redis(connection_pool=pool), threading.Lock()

    def whole(request: Any, context: Any) -> bytes:
        rpc.validate(request)
        value = redis.get(profile_key(subject_of(request.user_id, request.session_id)))
        watch = Stopwatch()
        with turn:
            profiles: Any = ReadBefore(value)  # a stand-in
            engine_then = replace(engine, profiles=profiles)
            answer = finished(recommend(request, engine_then, Budget.of(CALL_S), watch))
        context.set_trailing_metadata(((rpc.SERVER_TIMING, watch.server_timing()),))
        return bytes(answer.body)

    return {"Recommend": whole, "Used": lambda _, __: str(cpu_s()).encode()}


def finished(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waits")


def serve(
    kind: str, settings: Settings, socket_path: str, pipe: multiprocessing.connection.Connection
) -> None:
    """A server process; tells its port, ends with the pipe."""
    uvloop.run(_serve(kind, settings, socket_path, pipe))


async def _serve(
    kind: str, settings: Settings, path: str, pipe: multiprocessing.connection.Connection
) -> None:
    async with serving_running(settings) as serving, _server(kind, serving.engine, settings, path) as port:
        pipe.send(port)
        await asyncio.to_thread(pipe.recv)


@contextlib.asynccontextmanager
async def _server(kind: str, engine: Engine, settings: Settings, path: str) -> AsyncIterator[int]:
    server: Any
    if kind == "sync":
        server = grpc.server(futures.ThreadPoolExecutor(THREADS))
        methods = threaded_calls(engine, settings.redis_url)
    elif kind == "native":
        import pygrpc_native.aio

        server, methods = pygrpc_native.aio.server(), calls(engine)
    else:
        server, methods = grpc.aio.server(), calls(engine)
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(call, RecommendRequest.FromString, None)
        for name, call in methods.items()
    }
    server.add_registered_method_handlers("bench.Edge", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    if kind == "aio":
        server.add_insecure_port(f"unix:{path}")
    started = server.start()
    if started is not None:
        await started
    try:
        yield port
    finally:
        ended = server.stop(None)
        if isinstance(ended, Awaitable):
            await ended


@dataclass(frozen=True)
class Way:
    """One way to ask: which process, over what, which method."""

    label: str
    address: str
    method: str
    callers: int


async def timed(way: Way, users: int) -> tuple[float, float, float]:
    """p50 in us, calls a second and the server's CPU in us a call."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(way.address, options=options) for _ in range(way.callers)]
    used: Any = channels[0].unary_unary(PATH + "Used")
    requests = _requests(users)
    each, spent = CALLS // way.callers, list[float]()

    async def ask(channel: grpc.aio.Channel, first: int) -> None:
        call: Any = channel.unary_unary(PATH + way.method)
        for i in range(each):
            start_s = time.perf_counter()
            await call(requests[(first + i) % len(requests)])
            spent.append(time.perf_counter() - start_s)

    await asyncio.gather(*[channel.channel_ready() for channel in channels])
    before_s, start_s = float(await used(b"")), time.perf_counter()
    await asyncio.gather(*[ask(channel, each * i) for i, channel in enumerate(channels)])
    took_s, cpu = time.perf_counter() - start_s, float(await used(b"")) - before_s
    for channel in channels:
        await channel.close()
    return statistics.median(spent) * 1e6, len(spent) / took_s, cpu / len(spent) * 1e6


def _requests(users: int) -> list[bytes]:
    return [RecommendRequest(user_id=user_id(i % users)).SerializeToString() for i in range(CALLS)]


@contextlib.contextmanager
def processes(settings: Settings, folder: Path) -> Iterator[list[Way]]:
    """A process of each kind, and the ways to ask them."""
    context = multiprocessing.get_context("spawn")
    running, ways = [], list[Way]()
    for kind in KINDS:
        ours, theirs = context.Pipe()
        path = str(folder / f"{kind}.sock")
        child = context.Process(target=serve, args=(kind, settings, path, theirs), daemon=True)
        child.start()
        running.append((child, ours))
        ways += _ways(kind, f"127.0.0.1:{ours.recv()}", path)
    try:
        yield ways
    finally:
        for child, pipe in running:
            pipe.send(None)
            child.join(10)


def _ways(kind: str, address: str, path: str) -> Iterator[Way]:
    for callers in CALLERS:
        suffix = f"{callers} caller{'s' if callers > 1 else ''}"
        yield Way(f"{LABELS[kind]}, TCP, {suffix}", address, "Recommend", callers)
        if kind == "aio":
            yield Way(f"{LABELS[kind]}, TCP, times not told, {suffix}", address, "Untimed", callers)
            yield Way(f"{LABELS[kind]}, Unix socket, {suffix}", f"unix:{path}", "Recommend", callers)


async def paired(ways: list[Way], users: int) -> tuple[float, float]:
    """What telling the times adds to the process's CPU, in us a call: the median of PAIRS differences; and a call's CPU."""
    told, untold = (way for way in ways if way.label.startswith(LABELS["aio"]) and way.callers == CALLERS[-1] and "Unix" not in way.label)  # fmt: skip
    differences, whole = [], []
    for pair in range(PAIRS):
        order = (told, untold) if pair % 2 else (untold, told)
        found = {way: (await timed(way, users))[2] for way in order}
        differences.append(found[told] - found[untold])
        whole.append(found[told])
    return statistics.median(differences), statistics.median(whole)


def stopwatch_us() -> float:
    """What a request's stopwatch and its text take by themselves."""
    best = float("inf")
    for _ in range(20):
        start_s = time.perf_counter()
        for _ in range(200):
            watch = Stopwatch()
            for stage in STAGES:
                watch.lap(stage)
            watch.server_timing()
        best = min(best, (time.perf_counter() - start_s) / 200)
    return best * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, 50_000)
    options = from_arguments(parser.parse_args())
    with system_running(options) as system, tempfile.TemporaryDirectory(prefix="reco-edge-") as folder:
        measure(system.settings.model_copy(update={"ranking_port": 0}), Path(folder), options.users)


def measure(settings: Settings, folder: Path, users: int) -> None:
    """Prints the table."""
    rows: dict[Way, list[tuple[float, float, float]]] = {}
    with processes(settings, folder) as ways:
        for _ in range(ROUNDS + 1):
            for way in ways:
                rows.setdefault(way, []).append(uvloop.run(timed(way, users)))
        more, whole = uvloop.run(paired(ways, users))
    print("| whole request | p50, us | calls/s | CPU of the process, us a call |\n|---|---|---|---|")
    for way, rounds in rows.items():
        p50, rate, cpu = zip(*rounds[1:], strict=True)  # the first warms up
        print(f"| {way.label} | {min(p50):.0f} | {max(rate):.0f} | {min(cpu):.0f} |")
    print(f"telling the times, {PAIRS} pairs of {CALLS} calls: {more:+.1f} us of {whole:.0f} us CPU a call")
    print(f"stopwatch and its text by themselves: {stopwatch_us():.1f} us a request")


if __name__ == "__main__":
    main()
