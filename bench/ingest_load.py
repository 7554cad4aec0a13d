"""Events for the ingest bench: made and serialised before the clock starts, so that the generator's core is not the limit.

A process of its own: `python -m bench.ingest_load MODE ...` prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1 import event_pb2
from reco.ingest.v1.event_pb2 import AcceptedEvent, Event
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest, WriteEventsResponse
from redis.asyncio import Redis

from bench.load.histogram import Histogram

METHOD: Final = "/reco.ingest.v1.IngestService/WriteEvents"
ITEM_COUNT: Final = 2_000
USER_COUNT: Final = 50_000
CONNECTIONS: Final = 4
IN_FLIGHT: Final = 16  # calls at once: enough that ingest never waits for the generator
CALL_WAIT_S_MAX: Final = 30.0
PIPELINE: Final = 100  # raw XADDs in one round trip, as many as a batch has events
XADD_KEY: Final = "bench:{xadd}"
_TYPES: Final = (event_pb2.EVENT_TYPE_VIEW, event_pb2.EVENT_TYPE_CLICK, event_pb2.EVENT_TYPE_PURCHASE)


def event(number: int, begin_s: int) -> Event:
    """Event `number`: an id as callers make them (36 characters), one of many users and items, a surface."""
    return Event(
        id=f"{number:08x}-0000-4000-8000-{begin_s % 10**12:012d}",
        user_id=f"user-{number * 7919 % USER_COUNT}",
        item_id=f"item-{number * 104_729 % ITEM_COUNT}",
        type=_TYPES[number % 3],
        surface="home",
        event_time=Timestamp(seconds=begin_s - number % 3600, nanos=number % 1000 * 1000),
    )


def requests(count: int, batch: int, begin_s: int) -> list[bytes]:
    """`count` serialised requests of `batch` distinct events each."""
    return [
        WriteEventsRequest(
            events=[event(k, begin_s) for k in range(i * batch, (i + 1) * batch)]
        ).SerializeToString()
        for i in range(count)
    ]


class Calls:
    """WriteEvents over several connections; answers are bytes."""

    def __init__(self, target: str) -> None:
        self._channels = [
            grpc.aio.insecure_channel(
                target, options=(("grpc.use_local_subchannel_pool", 1), ("bench.channel", i))
            )
            for i in range(CONNECTIONS)
        ]
        self._calls: list[Any] = [channel.unary_unary(METHOD) for channel in self._channels]

    async def send(self, number: int, request: bytes) -> bytes:
        """One call."""
        answer: bytes = await self._calls[number % CONNECTIONS](request, timeout=CALL_WAIT_S_MAX)
        return answer

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def batches(target: str, count: int, batch: int) -> dict[str, Any]:
    """Closed loop: IN_FLIGHT calls at once until all are answered."""
    made = requests(count, batch, int(time.time()))
    calls, answers = Calls(target), []
    queue = iter(enumerate(made))

    async def carry() -> None:
        for number, request in queue:
            answers.append(await calls.send(number, request))

    await calls.send(0, requests(1, 1, 1)[0])
    start_s, used_s = time.perf_counter(), _used_s()
    await asyncio.gather(*(carry() for _ in range(IN_FLIGHT)))
    took_s = time.perf_counter() - start_s
    used_s = _used_s() - used_s
    await calls.close()
    accepted = sum(WriteEventsResponse.FromString(answer).accepted_count for answer in answers)
    return {
        "events": accepted,
        "seconds": took_s,
        "events_s": accepted / took_s,
        "generator_cpu_share": used_s / took_s,
    }


async def singles(target: str, rate: float, seconds: float) -> dict[str, Any]:
    """Open loop: a single event every 1 / rate seconds, timed from when it was due, however late it could be sent."""
    count = int(rate * seconds)
    made = requests(count, 1, int(time.time()))
    calls, histogram, failed = Calls(target), Histogram(), 0

    async def one(number: int, due_s: float) -> None:
        nonlocal failed
        try:
            await calls.send(number, made[number])
            histogram.record(time.perf_counter() - due_s)
        except grpc.aio.AioRpcError:
            failed += 1

    await calls.send(0, requests(1, 1, 2)[0])
    start_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            due_s = start_s + number / rate
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            tasks.create_task(one(number, due_s))
    await calls.close()
    return {"rate": rate, "count": histogram.count, "failed": failed, "latency_ms": histogram.percentiles()}


async def xadds(url: str, count: int) -> dict[str, Any]:
    """What the store itself takes: the same payloads by bare XADDs, packed beforehand, IN_FLIGHT pipelines at once."""
    begin_s = int(time.time())
    async with Redis.from_url(url) as redis:
        await redis.delete(XADD_KEY)
        packs = [_packed(i, begin_s) for i in range(count)]
        pool: Any = redis.connection_pool
        connections = [pool.make_connection() for _ in range(CONNECTIONS)]
        for connection in connections:
            await connection.connect()
        queue = iter(packs)

        async def carry(connection: Any) -> None:
            for pack in queue:
                await connection.send_packed_command(pack)
                for _ in range(PIPELINE):
                    await connection.read_response()

        start_s = time.perf_counter()
        await asyncio.gather(*map(carry, connections))
        took_s = time.perf_counter() - start_s
        for connection in connections:
            await connection.disconnect()
        await redis.delete(XADD_KEY)
    return {"events": count * PIPELINE, "seconds": took_s, "events_s": count * PIPELINE / took_s}


def _packed(i: int, begin_s: int) -> bytes:
    parts = []
    for number in range(i * PIPELINE, (i + 1) * PIPELINE):
        accepted = AcceptedEvent(
            event=event(number, begin_s), item_key=1, accept_time=Timestamp(seconds=begin_s)
        )
        words = (b"XADD", XADD_KEY.encode(), b"*", b"e", accepted.SerializeToString())
        parts.append(b"*5\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    return b"".join(parts)


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=("batches", "singles", "xadds"))
    parser.add_argument("--target", required=True, help="host:port of ingest; of xadds the store's URL")
    parser.add_argument("--count", type=int, default=2_000, help="requests, or pipelines")
    parser.add_argument("--batch", type=int, default=100, help="events of a request")
    parser.add_argument("--rate", type=float, default=500.0, help="of singles: events a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of singles")
    parser.add_argument("--core", type=int, help="the core to stay on")
    given = parser.parse_args(arguments)
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    modes: dict[str, Callable[[], Any]] = {
        "batches": lambda: batches(given.target, given.count, given.batch),
        "singles": lambda: singles(given.target, given.rate, given.seconds),
        "xadds": lambda: xadds(given.target, given.count),
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(modes[given.mode]())))


if __name__ == "__main__":
    main()
