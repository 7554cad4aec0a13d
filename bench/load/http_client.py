"""A small HTTP/1.1 client: connections kept open, one request at a time on each, answers counted and not read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import cast
from urllib.parse import quote

import httptools

from bench.load.answer import OK, TIMED_OUT, UNAVAILABLE, Answer
from bench.load.limits import BODY_BYTES_MAX, CONNECT_S, IN_FLIGHT_MAX
from bench.load.target import PLACEHOLDER, Target


class HttpCaller:
    """Opens a connection when none is free, and keeps it. For one event loop; no more than IN_FLIGHT_MAX at once."""

    def __init__(self, target: Target, users: Sequence[str], connections: int, timeout_s: float) -> None:
        self._target = target
        self._requests = [request_bytes(target, user) for user in users]
        self._first_count = connections  # opened one after the other before the first free one is used again
        self._timeout_s = timeout_s
        self._free: deque[_Connection] = deque()
        self._all: set[_Connection] = set()

    async def call(self, user: int) -> Answer:
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connection()
                answer = await connection.send(self._requests[user])
        except TimeoutError:
            answer = Answer(TIMED_OUT, perf_counter(), "")
        except (OSError, httptools.HttpParserError):
            answer = Answer(UNAVAILABLE, perf_counter(), "")
        finally:
            self._give_back(connection)
        return answer

    async def close(self) -> None:
        for connection in self._all:
            connection.drop()

    async def _connection(self) -> _Connection:
        if self._free and len(self._all) >= self._first_count:
            return self._free.popleft()
        if len(self._all) >= IN_FLIGHT_MAX:
            raise ConnectionError("as many connections are busy as may be open")
        async with asyncio.timeout(CONNECT_S):
            _, made = await asyncio.get_running_loop().create_connection(
                _Connection, self._target.host, self._target.port
            )
        self._all.add(made)
        return made

    def _give_back(self, connection: _Connection | None) -> None:
        if connection is None:
            return
        if connection.is_idle:
            self._free.append(connection)
        else:  # it was cut off, or an answer to a call that timed out may still come
            connection.drop()
            self._all.discard(connection)


def request_bytes(target: Target, user: str) -> bytes:
    """One whole request. In the path the user is percent-encoded, in a body it stands as it is."""
    body = target.body.replace(PLACEHOLDER, user).encode()
    host = f"[{target.host}]" if ":" in target.host else target.host
    headers = {"Host": f"{host}:{target.port}", **target.headers}
    if body:
        headers = {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}
    lines = [f"{target.method} {target.path.replace(PLACEHOLDER, quote(user, safe=''))} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class _Connection(asyncio.Protocol):
    """One connection; `send` once at a time. httptools calls the on_* methods while it reads an answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._server_timing = ""
        self._body_bytes = 0
        self.is_idle = False

    async def send(self, request: bytes) -> Answer:
        if self._transport is None:
            raise ConnectionError("the connection was closed while it was idle")
        self.is_idle = False
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self.is_idle = None, False
        self._fail(ConnectionError("the target closed the connection"))

    def on_message_begin(self) -> None:
        self._server_timing, self._body_bytes = "", 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"server-timing":
            self._server_timing = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            raise ConnectionError("the answer is longer than may be")

    def on_message_complete(self) -> None:
        code = self._parser.get_status_code()
        self.is_idle = self._parser.should_keep_alive()
        answer = Answer(OK if 200 <= code < 300 else f"HTTP_{code}", perf_counter(), self._server_timing)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
