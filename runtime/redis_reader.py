"""Reads single values from Redis or Valkey for the hot path: one connection, pipelined, on the event loop's own transport.

redis.asyncio takes a connection from a pool, writes, waits and reads for each command; here reads of many callers share one
connection and each costs a write and a future (the decision record about the serving edge has the figures). Only GET is
spoken, in RESP2; redis_client.py is for everything else. Errors are redis-py's, so that callers handle one kind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, cast

import hiredis
from redis.asyncio import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.redis_client import CONNECT_WAIT_S_MAX

READS_MAX = 1_024  # not answered at once, as many as the server takes calls; more are refused: Redis is stuck
SILENCE_S_MAX = 1.0  # a connection that owes an answer for so long is cut; its callers gave up long before
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.01, 0.5  # between tries to connect; reads fail at once meanwhile
TRIES_MAX = 2  # a read whose connection was cut is sent once more on a new one

_NOTHING: Any = object()
_AUTH_WORDS = ("WRONGPASS", "NOAUTH", "ERR invalid password", "NOPERM")


@dataclass(frozen=True)
class Address:
    """Where the server is, and who we are there."""

    host: str
    port: int
    path: str  # of a Unix socket; empty: TCP
    handshake: tuple[bytes, ...]  # commands, packed; each must be answered with OK
    tls: SSLContext | None = field(repr=False)


def address_of(url: str) -> Address:
    """What redis-py reads from `url` (redis, rediss, unix). Raises ValueError for another scheme."""
    connection = ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # redis-py's own
    user, password = getattr(connection, "username", None), getattr(connection, "password", None)
    handshake = []
    if password:
        handshake.append(_pack("AUTH", *([user] if user else []), password))
    if database := getattr(connection, "db", 0):
        handshake.append(_pack("SELECT", str(database)))
    path = connection.path if isinstance(connection, UnixDomainSocketConnection) else ""
    tls = connection.ssl_context.get() if isinstance(connection, SSLConnection) else None
    host, port = getattr(connection, "host", ""), int(getattr(connection, "port", 0))
    return Address(host, port, path, tuple(handshake), tls)


def _pack(*words: str | int) -> bytes:
    return cast(bytes, hiredis.pack_command(cast(Any, words)))


class RedisReader:
    """Values by key. For one event loop; connects at the first read, and again whenever the connection is lost."""

    def __init__(self, url: str) -> None:
        self._address = address_of(url)
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._backoff_s, self._retry_s = 0.0, 0.0  # the pause, and when it ends in the loop's clock
        self._cause: Exception | None = None  # why the last try to connect failed

    async def get(self, key: str, until_s: float) -> bytes | None:
        """The value of `key`, None if there is none; `until_s` is in the loop's clock.

        RedisError or OSError when it can't be had, TimeoutError when it is not there in time. May be cancelled at any time.
        """
        return (await self.get_all([key], until_s))[0]

    async def get_all(self, keys: Sequence[str], until_s: float) -> list[bytes | None]:
        """The values of `keys` in their order, in one round trip; otherwise as `get`. All are there, or it fails."""
        command = b"".join(map(_get_command, keys))
        for _ in range(TRIES_MAX - 1):
            try:
                return await self._once(command, len(keys), until_s)
            except ConnectionCutError:
                continue
        return await self._once(command, len(keys), until_s)

    async def _once(self, command: bytes, count: int, until_s: float) -> list[bytes | None]:
        connection = self._connection
        if connection is None or connection.is_lost:
            async with asyncio.timeout_at(until_s):
                connection = await self._connected()
        answers = connection.send(command, count)
        # A plain timer, not asyncio.timeout: of a loop that was held up beyond the limit, sockets come before timers, and an
        # answer that is there is taken.
        timer = asyncio.get_running_loop().call_at(until_s, _expire, answers)
        try:
            return [await answer for answer in answers]
        finally:
            timer.cancel()
            _drop(answers)

    async def _connected(self) -> Connection:
        """The connection, made by one task for all who wait; a caller that is cancelled does not stop it."""
        if self._connecting is None:
            if asyncio.get_running_loop().time() < self._retry_s:
                raise RedisConnectionError(
                    "Redis can't be connected to, waiting to try again"
                ) from self._cause
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._note)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_WAIT_S_MAX):
                return await _open(self._address)
        except TimeoutError as error:
            message = f"no connection to Redis within {CONNECT_WAIT_S_MAX:g} s"
            raise RedisTimeoutError(message) from error

    def _note(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        self._cause = cast(Exception | None, task.exception())
        if self._cause is None:
            self._connection, self._backoff_s = task.result(), 0.0
            return
        self._backoff_s = min(max(2 * self._backoff_s, BACKOFF_S_MIN), BACKOFF_S_MAX)
        self._retry_s = task.get_loop().time() + self._backoff_s

    async def aclose(self) -> None:
        """Cuts the connection; reads that wait fail."""
        if self._connecting:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection:
            self._connection.cut(RedisConnectionError("the reader was closed"))


class ConnectionCutError(RedisConnectionError):
    """The connection was lost before the answer came."""


class Connection(asyncio.Protocol):
    """Answers come in the order of commands: the oldest future that waits gets the next one, cancelled or not."""

    def __init__(self) -> None:
        self.is_lost = False
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=error_of, notEnoughData=_NOTHING
        )
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._oldest: asyncio.Future[Any] | None = None  # when the watch last looked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, command: bytes, count: int = 1) -> list[asyncio.Future[Any]]:
        """Sends `count` commands at the end of the loop's turn; returns their future answers.

        Raises RedisConnectionError beyond READS_MAX.
        """
        if self.is_lost:
            raise ConnectionCutError("the connection to Redis was lost")
        if len(self._waiting) + count > READS_MAX:
            raise RedisConnectionError(f"{READS_MAX} reads wait for Redis already")
        answers: list[asyncio.Future[Any]] = [self._loop.create_future() for _ in range(count)]
        self._waiting.extend(answers)
        self._transport.write(command)
        if self._watch is None:
            self._watch = self._loop.call_later(SILENCE_S_MAX, self._look)
        return answers

    def data_received(self, data: bytes) -> None:
        parser, waiting = self._parser, self._waiting
        try:
            parser.feed(data)
            while (value := parser.gets()) is not _NOTHING:
                if not waiting:
                    raise InvalidResponse("Redis said something that was not asked for")
                _give(waiting.popleft(), value)
        except InvalidResponse as error:
            self.cut(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or OSError("closed by the server"))

    def cut(self, error: Exception) -> None:
        """Ends the connection and fails who waits."""
        self._fail(error)
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self.is_lost = True
        if self._watch:
            self._watch.cancel()
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(_cut_error(error))

    def _look(self) -> None:
        """One timer for all reads: those that are answered in time cost nothing."""
        self._watch = None
        oldest = self._waiting[0] if self._waiting else None
        if oldest is not None and oldest is self._oldest:
            return self.cut(RedisTimeoutError(f"Redis was silent for {SILENCE_S_MAX:g} s"))
        self._oldest = oldest
        if oldest is not None:
            self._watch = self._loop.call_later(SILENCE_S_MAX, self._look)
        return None


async def _open(address: Address) -> Connection:
    loop = asyncio.get_running_loop()
    if address.path:
        transport, connection = await loop.create_unix_connection(Connection, address.path)
    else:
        transport, connection = await loop.create_connection(
            Connection, address.host, address.port, ssl=address.tls
        )
    answers = connection.send(b"".join(address.handshake), len(address.handshake))
    try:
        for answer in answers:
            await answer
    except BaseException:
        _drop(answers)
        transport.abort()
        raise
    return connection


def _give(answer: asyncio.Future[Any], value: Any) -> None:
    if answer.done():  # its caller went away: the value is dropped, and the next answer finds its own future
        return
    if isinstance(value, Exception):
        answer.set_exception(value)
    else:
        answer.set_result(value)


def _get_command(key: str) -> bytes:
    name = key.encode()
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name)


def _expire(answers: Sequence[asyncio.Future[Any]]) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(TimeoutError("Redis did not answer in time"))


def _drop(answers: Sequence[asyncio.Future[Any]]) -> None:
    """Nobody asks for them any more: those that are still to come, or came as errors behind the first one."""
    for answer in answers:
        if not answer.cancel() and not answer.cancelled():
            answer.exception()


def _cut_error(error: Exception) -> Exception:
    if isinstance(error, RedisTimeoutError | InvalidResponse):
        return error  # the same would happen again: not to be sent once more
    return ConnectionCutError(f"the connection to Redis was lost: {error}")


def error_of(text: str) -> ResponseError | RedisConnectionError:
    """What redis-py would raise for an error reply."""
    if text.startswith(_AUTH_WORDS):
        return AuthenticationError(text)
    return RedisConnectionError(text) if text.startswith("LOADING") else ResponseError(text)
