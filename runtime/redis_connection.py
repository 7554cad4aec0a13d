"""One connection to Redis or Valkey on the event loop's own transport: commands go out as bytes, answers come in their order.

With a channel, it is a subscriber as well, in RESP3: Redis then puts what is published into the same stream as the answers, so
that the answer to a command that was sent after the publishing comes behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, cast

import hiredis
import structlog
from redis.asyncio import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.redis_lengths import Lengths
from runtime.redis_url import RedisUrl

READS_MAX = 1_024  # not answered at once, as many as the server takes calls; more are refused: Redis is stuck
SILENCE_S_MAX = 1.0  # a connection that owes an answer for so long is cut; its callers gave up long before

_NOTHING: Any = object()
_AUTH_WORDS = ("WRONGPASS", "NOAUTH", "ERR invalid password", "NOPERM")


@dataclass(frozen=True)
class Address:
    """Where the server is, and who we are there."""

    host: str
    port: int
    path: str  # of a Unix socket; empty: TCP
    handshake: tuple[bytes, ...]  # commands, packed; each is answered once
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


def address_at(where: RedisUrl, host: str, port: int) -> Address:
    """A server that sentinels or a cluster have named."""
    handshake = []
    if where.password:
        handshake.append(_pack("AUTH", *([where.username] if where.username else []), where.password))
    if where.database:
        handshake.append(_pack("SELECT", str(where.database)))
    return Address(host, port, "", tuple(handshake), None)


def _pack(*words: str | int) -> bytes:
    return cast(bytes, hiredis.pack_command(cast(Any, words)))


@dataclass(frozen=True)
class Subscription:
    """A channel, and who takes what is published on it: called between two answers, so it must be quick."""

    channel: str
    on_push: Callable[[bytes], None]
    on_subscribed: Callable[[], None]  # what was published before is not told: look elsewhere for it

    @property
    def handshake(self) -> tuple[bytes, ...]:
        """A subscription is answered by a push, or by an error; so the answer to PING tells how it went."""
        return _pack("HELLO", 3), _pack("SUBSCRIBE", self.channel) + _pack("PING")


class ConnectionCutError(RedisConnectionError):
    """The connection was lost before the answer came."""


class Connection(asyncio.Protocol):
    """Answers come in the order of commands: the oldest future that waits gets the next one, cancelled or not."""

    def __init__(self, on_push: Callable[[bytes], None] | None = None) -> None:
        self.is_lost = False
        self.ended = asyncio.Event()
        self._on_push = on_push
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=error_of, notEnoughData=_NOTHING
        )
        self._lengths = Lengths()
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
            self._lengths.look(data)
            parser.feed(data)
            while (value := parser.gets()) is not _NOTHING:
                if type(value) is hiredis.PushNotification:
                    self._push(value)
                    continue
                if not waiting:
                    raise InvalidResponse("Redis said something that was not asked for")
                _give(waiting.popleft(), value)
        except InvalidResponse as error:
            self.cut(error)
        except (
            Exception
        ) as error:  # hiredis chokes in other ways, too: a list as the key of a map is a TypeError
            self.cut(InvalidResponse(f"Redis said what can't be read: {type(error).__name__}: {error}"))

    def _push(self, value: Sequence[Any]) -> None:
        if value[0] != b"message" or self._on_push is None:  # that we have subscribed
            return
        try:
            self._on_push(value[2])
        except Exception:  # not foreseen; the answers behind it are other callers'
            structlog.get_logger().exception("what Redis told can't be taken")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or OSError("closed by the server"))

    def cut(self, error: Exception) -> None:
        """Ends the connection and fails who waits."""
        self._fail(error)
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self.is_lost = True
        self.ended.set()
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


async def open_connection(address: Address, subscription: Subscription | None = None) -> Connection:
    """A connection that is ready; without the subscription where Redis refuses that. Raises RedisError, OSError."""
    if subscription is None:
        return await _open(address, address.handshake, None)
    try:
        both = (*address.handshake, *subscription.handshake)
        connection = await _open(address, both, subscription.on_push)
    except (
        ResponseError,
        AuthenticationError,
    ) as error:  # too old for RESP3, or our account may not subscribe
        connection = await _open(address, address.handshake, None)
        message = "Redis refuses the subscription; changes are noticed later: allow the account HELLO, SUBSCRIBE and the channel"
        structlog.get_logger().warning(message, channel=subscription.channel, error=str(error))
    else:
        subscription.on_subscribed()
    return connection


async def _open(
    address: Address, handshake: tuple[bytes, ...], on_push: Callable[[bytes], None] | None
) -> Connection:
    loop = asyncio.get_running_loop()

    def make() -> Connection:
        return Connection(on_push)

    if address.path:
        transport, connection = await loop.create_unix_connection(make, address.path)
    else:
        transport, connection = await loop.create_connection(
            make, address.host, address.port, ssl=address.tls
        )
    answers = connection.send(b"".join(handshake), len(handshake))
    try:
        for answer in answers:
            await answer
    except BaseException:
        drop(answers)
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


def drop(answers: Sequence[asyncio.Future[Any]]) -> None:
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
