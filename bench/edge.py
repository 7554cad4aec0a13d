"""What a call costs at serving's edge: servers, profile readers and encodings, interleaved in one run.

    PYTHONPATH=.:gen python -m bench.edge

Each row is the best of several rounds that take turns; server CPU is from the server process's own rusage, so it holds on a
shared machine where times do not. docs/decisions/0009-serving-edge.md has the table and what was chosen.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import uvloop
from reco.ranking.v1.ranking_service_pb2 import Recommendation, RecommendRequest, RecommendResponse, Source
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from runtime.redis_reader import RedisReader
from runtime.stores import EmbeddedValkey

ROUNDS, CALLS = 3, 400
PROFILE = bytes(880)  # a full ring
PATH = "/bench.Edge/"
Figures = dict[str, list[tuple[float, float]]]  # row -> (p50 us, CPU us a call) of each round


def answer() -> RecommendResponse:
    """20 items, tokens of the usual length."""
    items = [
        Recommendation(item_id=f"item-{7 * i:07}", score=0.123 / (i + 1), source=Source.SOURCE_PERSONAL)
        for i in range(20)
    ]
    return RecommendResponse(items=items, next_page_token="p" * 120, model_version="m" * 24,
                             attribution_token="a" * 60)  # fmt: skip


BODY = answer().SerializeToString()


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def handlers(reader: RedisReader | Redis | None, is_async: bool) -> Any:
    async def empty(_: Any, __: Any) -> bytes:
        return b""

    async def recommend(_: Any, __: Any) -> bytes:
        if isinstance(reader, RedisReader):
            await reader.get("p", asyncio.get_running_loop().time() + 1)
        elif reader is not None:
            await reader.get("p")
        return BODY

    async def used(_: Any, __: Any) -> bytes:
        return str(cpu_s()).encode()

    def plain(function: Callable[[Any, Any], Awaitable[bytes]], value: Callable[[], bytes]) -> Any:
        return function if is_async else (lambda _, __: value())

    calls = {
        "Empty": plain(empty, lambda: b""),
        "Recommend": plain(recommend, lambda: BODY),
        "Used": plain(used, lambda: str(cpu_s()).encode()),
    }
    return {
        name: grpc.unary_unary_rpc_method_handler(call, RecommendRequest.FromString, None)
        for name, call in calls.items()
    }


def serve(kind: str, url: str, pipe: multiprocessing.connection.Connection) -> None:
    """A server process; tells its port, ends with the pipe."""
    server_kind, _, reader_kind = kind.partition("+")
    if server_kind == "sync":
        server = grpc.server(futures.ThreadPoolExecutor(4))
        server.add_registered_method_handlers("bench.Edge", handlers(None, False))
        pipe.send(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        pipe.recv()
        return
    uvloop.run(_serve_async(server_kind, reader_kind, url, pipe))


async def _serve_async(
    kind: str, reader_kind: str, url: str, pipe: multiprocessing.connection.Connection
) -> None:
    readers: dict[str, Callable[[], Any]] = {
        "own": lambda: RedisReader(url), "redis-py": lambda: Redis.from_url(url), "": lambda: None,
    }  # fmt: skip
    reader = readers[reader_kind]()
    server: Any
    if kind == "native":
        import pygrpc_native.aio

        server = pygrpc_native.aio.server()
    else:
        server = grpc.aio.server()
    server.add_registered_method_handlers("bench.Edge", handlers(reader, True))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    await asyncio.to_thread(pipe.recv)
    await server.stop(None)


def timed_calls(call: Callable[[], Any]) -> float:
    """p50 in us of CALLS calls."""
    spent = []
    for _ in range(CALLS):
        start_s = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start_s)
    return statistics.median(spent) * 1e6


def measure_servers(url: str, rows: Figures) -> None:
    """(a) and (c): empty and Recommend-shaped calls, and with a profile read before the answer."""
    context = multiprocessing.get_context("spawn")
    kinds = ("sync", "aio", "native", "aio+redis-py", "aio+own", "native+own")
    running, request = [], RecommendRequest(user_id="ann").SerializeToString()
    for kind in kinds:
        ours, theirs = context.Pipe()
        child = context.Process(target=serve, args=(kind, url, theirs), daemon=True)
        child.start()
        running.append((kind, child, ours, grpc.insecure_channel(f"127.0.0.1:{ours.recv()}")))
    for _ in range(ROUNDS + 1):
        for kind, _, _, channel in running:
            for name in ("Empty", "Recommend"):
                call: Any = channel.unary_unary(PATH + name)
                used: Any = channel.unary_unary(PATH + "Used")
                before_s = float(used(b""))
                p50 = timed_calls(partial(call, request))
                cpu = (float(used(b"")) - before_s) / CALLS * 1e6
                rows.setdefault(f"{kind}: {name}", []).append((p50, cpu))
    for _, child, pipe, channel in running:
        channel.close()
        pipe.send(None)
        child.join()


async def measure_readers(url: str, name: str, rows: Figures) -> None:
    """(b): GET of a full profile, one after the other."""
    clients: dict[str, Callable[[], Any]] = {}
    own, ours = Redis.from_url(url), RedisReader(url)
    loop = asyncio.get_running_loop()
    clients["redis.asyncio"] = lambda: own.get("p")
    clients["own reader"] = lambda: ours.get("p", loop.time() + 1)
    sync = SyncRedis.from_url(url)
    for _ in range(ROUNDS + 1):
        for kind, call in clients.items():
            rows.setdefault(f"GET, {name}: {kind}", []).append(await timed_reads(call))
        before_s = cpu_s()
        p50 = timed_calls(lambda: sync.get("p"))
        rows.setdefault(f"GET, {name}: sync client", []).append((p50, (cpu_s() - before_s) / CALLS * 1e6))
    await own.aclose()
    await ours.aclose()
    sync.close()


async def timed_reads(call: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    spent, before_s = [], cpu_s()
    for _ in range(CALLS):
        start_s = time.perf_counter()
        await call()
        spent.append(time.perf_counter() - start_s)
    return statistics.median(spent) * 1e6, (cpu_s() - before_s) / CALLS * 1e6


def measure_encodings(rows: Figures) -> None:
    """(e): an answer by protobuf, and by joining items whose id and source were serialized beforehand."""
    ids = [item.item_id for item in answer().items]
    scores = [item.score for item in answer().items]
    heads = [Recommendation(item_id=i).SerializeToString() for i in ids]
    tail = RecommendResponse(next_page_token="p" * 120, model_version="m" * 24, attribution_token="a" * 60)
    assert encoded(heads, scores, tail) == BODY
    ways = {
        "protobuf messages": lambda: built(ids, scores),
        "joined bytes": lambda: encoded(heads, scores, tail),
    }
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            before_s = cpu_s()
            p50 = timed_calls(way)
            rows.setdefault(f"encode: {name}", []).append((p50, (cpu_s() - before_s) / CALLS * 1e6))


def built(ids: list[str], scores: list[float]) -> bytes:
    items = [
        Recommendation(item_id=i, score=s, source=Source.SOURCE_PERSONAL)
        for i, s in zip(ids, scores, strict=True)
    ]
    return RecommendResponse(items=items, next_page_token="p" * 120, model_version="m" * 24,
                             attribution_token="a" * 60).SerializeToString()  # fmt: skip


def encoded(heads: list[bytes], scores: list[float], tail: RecommendResponse) -> bytes:
    """Field 1 is the item: its head, then score (field 2, double) and source (field 3). Items are shorter than 128 bytes."""
    import struct

    score = struct.Struct("<Bd").pack
    source = bytes((0x18, Source.SOURCE_PERSONAL))
    parts = [
        b"\x0a%c%b%b%b" % (len(head) + 11, head, score(0x11, s), source)
        for head, s in zip(heads, scores, strict=True)
    ]
    return b"".join(parts) + tail.SerializeToString()


async def fill(url: str) -> None:
    async with Redis.from_url(url) as redis:
        await redis.set("p", PROFILE)


def main() -> None:
    rows: Figures = {}
    with tempfile.TemporaryDirectory(prefix="reco-edge-") as folder:
        valkey = EmbeddedValkey(Path(folder))
        url = valkey.start()
        try:
            asyncio.run(fill(url))
            uvloop.run(measure_readers(url, "Unix socket", rows))
            measure_servers(url, rows)
        finally:
            valkey.stop()
    measure_encodings(rows)
    print("| what | p50, us | CPU of the process, us a call |\n|---|---|---|")
    for name, rounds in rows.items():
        best = rounds[1:]  # the first warms up
        print(f"| {name} | {min(p for p, _ in best):.0f} | {min(c for _, c in best):.0f} |")


if __name__ == "__main__":
    main()
