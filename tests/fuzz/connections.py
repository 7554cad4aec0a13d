"""What reads a connection byte by byte: answers of Redis, and HTTP/2 before gRPC's own server. Cuts change nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, cast

from structlog.testing import capture_logs

from runtime import frames
from runtime.redis_connection import Connection as RedisConnection
from runtime.redis_connection import drop
from tests.fuzz.target import Choices, Target
from tests.unit.runtime import test_front as front

WAITING = 4  # commands that are not answered

_loop = asyncio.new_event_loop()


def _in_loop(scene: Callable[[bytes], Awaitable[None]]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        _loop.run_until_complete(cast(Any, scene(data)))

    return run


def _cut(data: bytes) -> tuple[bytes, list[int]]:
    """Two bytes say where the rest is cut."""
    choices = Choices(data[:2])
    return data[2:], [choices.number(256), choices.number(256) * 7]


async def redis_answers(data: bytes) -> None:
    """Whatever Redis says: answers go to those who asked, in order, or the connection is cut and all who wait are told."""
    told = []
    for cuts in ([], _cut(data)[1]):
        pushed: list[Any] = []
        pipe, connection = front.Pipe(), RedisConnection(pushed.append)
        connection.connection_made(cast(Any, pipe))
        answers = connection.send(b"", WAITING)
        with capture_logs():  # news that is none is told there
            front.deliver(connection.data_received, _cut(data)[0], cuts)
        assert pipe.closed == connection.is_lost
        assert not connection.is_lost or all(answer.done() for answer in answers)
        told.append([connection.is_lost, [answer.done() for answer in answers]])
        connection.connection_lost(None)
        drop(answers)
    assert told[0] == told[1]


async def door(data: bytes) -> None:
    """Whatever a client sends to the front, with room for its calls or without: the cuts of its bytes change nothing."""
    body, cuts = _cut(data)
    for room in (1, 100):
        passed = []
        for places in ([], cuts):
            connection = await front.opened(room)
            connection.send(body, places)
            passed.append((connection.to_server.written, connection.refusals, connection.limiter.open_count))
            connection.client.connection_lost(None)
            assert connection.limiter.open_count == 0
        assert passed[0] == passed[1]


async def server_side(data: bytes) -> None:
    """Whatever gRPC's server answers passes to the client as it came."""
    body, cuts = _cut(data)
    connection = await front.opened(100)
    connection.reply(body, cuts)
    assert connection.to_client.written == body


_ANSWERS = b"+OK\r\n$3\r\nabc\r\n*2\r\n:1\r\n$-1\r\n-ERR no\r\n>3\r\n+message\r\n+reco:items\r\n$2\r\n{}\r\n"
_CALLS = b"".join(front.call(stream, body=b"x" * stream) for stream in (3, 5, 7))
_FRAMES = tuple(
    frames.head(4, kind, flags, stream) + b"\0\0\0\1"
    for kind, flags, stream in itertools.product((0, 1, 3, 4, 8, 9), (0, 5), (0, 3))
)

TARGETS = [
    Target("redis_answers", _in_loop(redis_answers), [b"\3\4" + _ANSWERS, b"\0\0" + _ANSWERS],
        (b"*-1\r\n", b"$-1\r\n", b"%1\r\n", b">2\r\n", b"-LOADING\r\n", b"-WRONGPASS \xff\r\n", b":99999999999999999999\r\n", b"#t\r\n",
         b",inf\r\n", b"(123\r\n", b"\r\n")),
    Target("front_client", _in_loop(door), [b"\3\4" + _CALLS, b"\0\0" + front.call(3, front.HEALTH) + front.call(5)],
        (*_FRAMES, front.RANKING), slow=2),
    Target("front_server", _in_loop(server_side), [b"\3\4" + front.answer(1) + front.answer(3)], _FRAMES),
]  # fmt: skip
