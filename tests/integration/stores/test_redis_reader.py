"""The reader of the hot path on the real Valkey: in order, cancelled, cut, paused, killed, refused."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
import structlog
import uvloop
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from runtime import redis_connection
from runtime.redis_connection import Connection, Subscription, address_of
from runtime.redis_reader import RedisReader
from runtime.stores import EmbeddedValkey

HOLD_UP_S = 0.1  # of a loop, twice the read's limit
LONG_S = 30.0  # never waited for to the end
BIG_BYTES = 3_000_000  # comes in many pieces


def later(wait_s: float = LONG_S) -> float:
    return asyncio.get_running_loop().time() + wait_s


@pytest.fixture
async def reader(valkey: str, redis: Redis) -> AsyncIterator[RedisReader]:
    """A reader of an empty Valkey."""
    reader = RedisReader(valkey)
    yield reader
    await reader.aclose()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that a test may kill."""
    server = EmbeddedValkey(tmp_path)
    server.start()
    yield server
    server.stop()


class Proxy:
    """Passes bytes on between TCP and Valkey's socket; cuts the first connection after some bytes of the answers."""

    def __init__(self, path: str, answer_bytes_max: int) -> None:
        self._path, self._left, self.connection_count = path, answer_bytes_max, 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        cuts = self.connection_count == 1
        up_reader, up_writer = await asyncio.open_unix_connection(self._path)
        forward = asyncio.create_task(pump(reader, up_writer))
        while data := await up_reader.read(1 << 16):
            if cuts and len(data) >= self._left:
                writer.write(data[: self._left])
                break
            self._left -= len(data)
            writer.write(data)
        for one in (writer, up_writer):
            one.close()
        forward.cancel()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


def socket_of(url: str) -> str:
    return unquote(url.removeprefix("unix://"))


async def test_get_when_key_is_there_missing_or_big_gives_what_is_stored(
    reader: RedisReader, redis: Redis
) -> None:
    big = os.urandom(BIG_BYTES)
    await redis.mset({"small": b"\r\n$-1\x00", "empty": b"", "big": big})
    assert await reader.get("small", later()) == b"\r\n$-1\x00"
    assert await reader.get("empty", later()) == b""
    assert await reader.get("nothing", later()) is None
    assert await reader.get("big", later()) == big


async def test_get_all_when_some_are_missing_gives_all_in_order(reader: RedisReader, redis: Redis) -> None:
    await redis.mset({"a": b"A", "c": b"C"})
    assert await reader.get_all(["c", "b", "a"], later()) == [b"C", None, b"A"]
    assert await reader.get_all([], later()) == []


async def test_get_all_when_one_is_of_another_type_fails_and_shifts_nothing(
    reader: RedisReader, redis: Redis
) -> None:
    await redis.set("a", b"A")
    await redis.rpush("list", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await reader.get_all(["list", "list", "a"], later())
    assert await reader.get_all(["a", "b"], later()) == [b"A", None]


async def test_get_all_when_redis_is_paused_ends_at_its_time_with_nothing_left_over(
    reader: RedisReader, redis: Redis
) -> None:
    await redis.set("a", b"A")
    await reader.get("a", later())
    await redis.execute_command("CLIENT", "PAUSE", 300, "ALL")
    with pytest.raises(TimeoutError):
        await reader.get_all(["a", "b"], later(0.02))
    assert await reader.get_all(["b", "a"], later()) == [None, b"A"]


async def test_get_when_a_thousand_read_at_once_each_gets_its_own(reader: RedisReader, redis: Redis) -> None:
    await redis.mset({f"k{i}": b"%d" % i for i in range(1000)})
    values = await asyncio.gather(*(reader.get(f"k{i}", later()) for i in range(1000)))
    assert values == [b"%d" % i for i in range(1000)]


async def test_get_when_every_third_reader_is_cancelled_the_others_get_their_own(
    reader: RedisReader, redis: Redis
) -> None:
    await redis.mset({f"k{i}": b"%d" % i for i in range(300)})
    await reader.get("k0", later())
    tasks = [asyncio.create_task(reader.get(f"k{i}", later())) for i in range(300)]
    await asyncio.sleep(0)  # all are sent
    for task in tasks[::3]:
        task.cancel()
    values = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(value, asyncio.CancelledError) for value in values[::3])
    kept = [i for i in range(300) if i % 3]
    assert [values[i] for i in kept] == [b"%d" % i for i in kept]


async def test_get_when_redis_is_paused_ends_at_its_time_and_later_answers_are_not_shifted(
    reader: RedisReader, redis: Redis
) -> None:
    await redis.mset({"a": b"A", "b": b"B"})
    await reader.get("a", later())
    await redis.execute_command("CLIENT", "PAUSE", 300, "ALL")
    with pytest.raises(TimeoutError):
        await reader.get("a", later(0.02))
    assert await reader.get("b", later()) == b"B"


async def test_get_when_too_many_wait_is_refused_at_once(
    reader: RedisReader, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reader.get("a", later())
    monkeypatch.setattr(redis_connection, "READS_MAX", 2)
    two = [asyncio.create_task(reader.get("a", later())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RedisConnectionError, match="wait for Redis already"):
        await reader.get("a", later())
    assert await asyncio.gather(*two) == [None, None]


async def test_get_when_the_value_is_of_another_type_says_what_redis_said(
    reader: RedisReader, redis: Redis
) -> None:
    await redis.rpush("list", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await reader.get("list", later())
    assert await reader.get("nothing", later()) is None


async def test_get_when_the_connection_is_cut_in_an_answer_asks_again(valkey: str, redis: Redis) -> None:
    await redis.mset({"a": b"x" * 100_000, "b": b"B"})
    proxy = Proxy(socket_of(valkey), answer_bytes_max=70_000)
    async with proxy.running() as url:
        reader = RedisReader(url)
        values = await asyncio.gather(reader.get("a", later()), reader.get("b", later()))
        await reader.aclose()
    assert values == [b"x" * 100_000, b"B"]
    assert proxy.connection_count == 2


async def test_get_when_redis_is_killed_fails_and_answers_again_after_its_start(own: EmbeddedValkey) -> None:
    reader = RedisReader(own.url)
    assert await reader.get("a", later()) is None
    assert own.pid is not None
    os.kill(own.pid, signal.SIGKILL)
    own.stop()
    with pytest.raises((RedisError, OSError)):
        await reader.get("a", later())
    own.start()
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                assert await reader.get("a", later()) is None
                break
            except (RedisError, OSError):
                await asyncio.sleep(0.01)
    await reader.aclose()


async def test_get_when_redis_stays_silent_is_cut_and_said(
    own: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "SILENCE_S_MAX", 0.05)
    reader = RedisReader(own.url)
    await reader.get("a", later())
    assert own.pid is not None
    os.kill(own.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RedisError, match="silent"):
            await reader.get("a", later())
    finally:
        os.kill(own.pid, signal.SIGCONT)
    await reader.aclose()


async def test_get_when_a_caller_goes_away_while_connecting_the_others_are_served(
    reader: RedisReader,
) -> None:
    first, second = (asyncio.create_task(reader.get("a", later())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is None


async def test_get_when_nobody_listens_fails_at_once_until_the_next_try() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        reader = RedisReader(f"redis://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await reader.get("a", later())
        with pytest.raises(RedisConnectionError, match="waiting to try again"):
            await reader.get("a", later())


async def test_get_when_the_password_is_wrong_says_so_and_with_the_right_one_reads(
    valkey: str, redis: Redis
) -> None:
    await redis.execute_command("ACL", "SETUSER", "eve", "on", ">secret", "~*", "+get", "+select")
    try:
        await redis.execute_command("SELECT", 3)
        await redis.set("a", b"of database 3")
        await redis.execute_command("SELECT", 0)
        wrong = RedisReader(f"{valkey}?username=eve&password=no&db=3")
        with pytest.raises(AuthenticationError):
            await wrong.get("a", later())
        right = RedisReader(f"{valkey}?username=eve&password=secret&db=3")
        assert await right.get("a", later()) == b"of database 3"
        await right.aclose()
    finally:
        await redis.execute_command("ACL", "DELUSER", "eve")


class Listener:
    """Takes what is published, and counts the subscriptions."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.subscribed = asyncio.Semaphore(0)
        self.subscription = Subscription("news", self.taken.append, self.subscribed.release)

    @asynccontextmanager
    async def reading(self, url: str) -> AsyncIterator[RedisReader]:
        reader = RedisReader(url, self.subscription)
        keeping = asyncio.create_task(reader.keep_connected())
        yield reader
        keeping.cancel()
        await reader.aclose()


async def test_push_when_published_before_a_read_was_sent_comes_before_its_answer(
    valkey: str, redis: Redis
) -> None:
    listener = Listener()
    async with listener.reading(valkey) as reader:
        await listener.subscribed.acquire()
        for i in range(300):
            assert await redis.publish("news", b"%d" % i) == 1
            assert await reader.get("missing", later()) is None
            assert listener.taken[-1] == b"%d" % i


async def test_push_when_many_read_meanwhile_shifts_no_answer(valkey: str, redis: Redis) -> None:
    await redis.mset({f"k{i}": b"%d" % i for i in range(300)})
    listener = Listener()
    async with listener.reading(valkey) as reader:
        await listener.subscribed.acquire()
        reads = [reader.get_all([f"k{i}", "none", f"k{i}"], later()) for i in range(300)]
        told = [redis.publish("news", b"x" * i) for i in range(30)]
        values, _ = await asyncio.gather(asyncio.gather(*reads), asyncio.gather(*told))
    assert values == [[b"%d" % i, None, b"%d" % i] for i in range(300)]
    assert sorted(map(len, listener.taken)) == list(range(30))


async def test_push_when_its_taker_fails_the_reads_go_on(valkey: str, redis: Redis) -> None:
    ready = asyncio.Event()

    def fail(message: bytes) -> None:
        raise ValueError(message)

    reader = RedisReader(valkey, Subscription("news", fail, ready.set))
    await reader.get("a", later())
    assert ready.is_set()
    await redis.publish("news", b"x")
    assert await reader.get("a", later()) is None
    await reader.aclose()


async def test_subscription_when_redis_was_killed_is_made_anew_without_a_read(own: EmbeddedValkey) -> None:
    listener = Listener()
    async with asyncio.timeout(LONG_S), listener.reading(own.url) as reader:
        await listener.subscribed.acquire()
        assert own.pid is not None
        os.kill(own.pid, signal.SIGKILL)
        own.stop()
        own.start()
        await listener.subscribed.acquire()
        async with Redis.from_url(own.url) as client:
            await client.publish("news", b"again")
        await reader.get("a", later())
    assert listener.taken == [b"again"]


@pytest.mark.parametrize("allowed", [["+get"], ["+get", "+hello", "+subscribe", "+ping", "resetchannels"]])
async def test_subscription_when_the_account_may_not_reads_all_the_same(
    valkey: str, redis: Redis, allowed: list[str]
) -> None:
    await redis.execute_command("ACL", "SETUSER", "eve", "reset", "on", ">secret", "~*", *allowed)
    await redis.set("a", b"A")
    listener = Listener()
    try:
        with structlog.testing.capture_logs() as logs:
            async with listener.reading(f"{valkey}?username=eve&password=secret") as reader:
                assert await reader.get("a", later()) == b"A"
        assert ["Redis refuses the subscription" in log["event"] for log in logs] == [True]
    finally:
        await redis.execute_command("ACL", "DELUSER", "eve")


async def test_connection_when_something_comes_unasked_is_cut(valkey: str) -> None:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(Connection, socket_of(valkey))
    connection.data_received(b"+HELLO\r\n")
    assert connection.is_lost


def test_address_when_the_url_asks_for_tls_has_a_context_and_hides_nothing_else() -> None:
    address = address_of("rediss://u:p%40@h:1/2?ssl_cert_reqs=none")
    assert (address.host, address.port, address.path) == ("h", 1, "")
    assert address.tls is not None
    assert address.handshake == (
        b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$2\r\np@\r\n", b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n",
    )  # fmt: skip


async def held_up_read(url: str) -> bytes | None:
    """A read whose answer comes in time, while the loop is held up beyond its limit."""
    reader = RedisReader(url)
    await reader.get("k", later())  # connected
    read = asyncio.create_task(reader.get("k", later(HOLD_UP_S / 2)))
    await asyncio.sleep(0)  # it is sent
    held_s = time.monotonic() + HOLD_UP_S
    with SyncRedis.from_url(url) as other:  # answered after it, by a server that takes turns
        while time.monotonic() < held_s:
            other.get("k")
    try:
        return await read
    finally:
        await reader.aclose()


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_get_when_the_loop_was_held_up_takes_the_answer_that_came_meanwhile(
    own: EmbeddedValkey, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with SyncRedis.from_url(own.url) as other:
        other.set("k", b"there")
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(held_up_read(own.url)) == b"there"
