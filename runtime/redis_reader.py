"""Reads single values from Redis or Valkey for the hot path: one connection, pipelined, on the event loop's own transport.

redis.asyncio takes a connection from a pool, writes, waits and reads for each command; here reads of many callers share one
connection and each costs a write and a future (the decision record about the serving edge has the figures). Only GET is
spoken, and one channel may be listened to on the same connection; redis_client.py is for everything else. Errors are
redis-py's, so that callers handle one kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.redis_client import CONNECT_WAIT_S_MAX
from runtime.redis_connection import (
    Address,
    Connection,
    ConnectionCutError,
    Subscription,
    address_of,
    drop,
    open_connection,
)

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.01, 0.5  # between tries to connect; reads fail at once meanwhile
TRIES_MAX = 2  # a read whose connection was cut is sent once more on a new one


Locate = Callable[[], Awaitable[Address]]  # says where to connect to, each time; raises RedisError, OSError


class Reader(Protocol):
    """Values by key: of one server, or of a cluster (runtime/redis_readers.py)."""

    async def get(self, key: str, until_s: float) -> bytes | None: ...
    async def get_all(self, keys: Sequence[str], until_s: float) -> list[bytes | None]: ...
    async def keep_connected(self) -> None: ...
    async def aclose(self) -> None: ...


class RedisReader:
    """Values by key. For one event loop; connects at the first read, and again whenever the connection is lost."""

    def __init__(self, where: str | Locate, subscription: Subscription | None = None) -> None:
        """`where` is the URL of one server, or what says where it is now."""
        self._locate = where if callable(where) else always(address_of(where))
        self._subscription = subscription
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

    async def keep_connected(self) -> None:
        """For ever; for who is subscribed and can't wait for the next read to notice that the connection was lost."""
        while True:
            try:
                connection = self._connection
                if connection is None or connection.is_lost:
                    connection = await self._connected()
                await connection.ended.wait()
            except (RedisError, OSError):
                pause_s = self._retry_s - asyncio.get_running_loop().time()
                await asyncio.sleep(max(pause_s, BACKOFF_S_MIN))

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
            drop(answers)

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
                return await open_connection(await self._locate(), self._subscription)
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


def always(address: Address) -> Locate:
    """A server that stays where it is."""

    async def locate() -> Address:
        return address

    return locate


def _get_command(key: str) -> bytes:
    name = key.encode()
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name)


def _expire(answers: Sequence[asyncio.Future[Any]]) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(TimeoutError("Redis did not answer in time"))
