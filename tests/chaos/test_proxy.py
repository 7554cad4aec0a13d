"""The proxy that hurts connections: what passes, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from bench.chaos.proxy import Proxy
from bench.processes import free_port

WAIT_S_MAX = 10.0


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    made = Proxy(free_port(), f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await made.start()
    yield made
    await made.stop()
    server.close()


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    """What comes back until there is as much, or the end."""
    writer.write(text)
    got = b""
    async with asyncio.timeout(WAIT_S_MAX):
        while len(got) < len(text) and (data := await reader.read(1000)):
            got += data
    return got


async def test_proxy_when_nothing_is_wrong_passes_both_ways(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    assert await ask(reader, writer, b"hello") == b"hello"
    writer.close()


async def test_proxy_when_it_cuts_ends_every_connection_and_takes_new_ones(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    assert await ask(reader, writer, b"hello") == b"hello"
    proxy.cut()
    async with asyncio.timeout(WAIT_S_MAX):
        with contextlib.suppress(ConnectionResetError):  # an end with a reset is one, too
            assert await reader.read(1) == b""
    writer.close()
    reader, writer = await connect(proxy)
    assert await ask(reader, writer, b"again") == b"again"
    writer.close()


async def test_proxy_when_it_truncates_passes_half_and_ends_the_connection(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    assert await ask(reader, writer, b"hello") == b"hello"
    proxy.truncate()
    try:
        got = await ask(reader, writer, b"12345678")
    except ConnectionResetError:
        got = b""
    assert got in (b"", b"1234")  # the half may have come back before the end, or not
    writer.close()


async def test_proxy_when_it_stalls_passes_nothing_until_it_goes_on(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    proxy.stall(True)
    asked = asyncio.create_task(ask(reader, writer, b"hello"))
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    proxy.stall(False)
    assert await asked == b"hello"
    writer.close()


async def test_proxy_when_it_delays_passes_everything_in_order(proxy: Proxy) -> None:
    proxy.delay(0.01)
    reader, writer = await connect(proxy)
    assert [await ask(reader, writer, text) for text in (b"one", b"two")] == [b"one", b"two"]
    writer.close()
