"""Small real servers on loopback that a test can stall: an HTTP one and a gRPC one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from bench.load.target import Target, parse

TIMING = "profile;dur=0.1, total;dur=0.5"
Stall = Callable[[], Any]  # awaited before each answer


async def no_stall() -> None:
    """Answers at once."""


@contextlib.asynccontextmanager
async def http_server(stall: Stall = no_stall, status: str = "200 OK") -> AsyncIterator[Target]:
    """Answers every request with {}, each connection in order."""

    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await stall()
                writer.write(
                    f"HTTP/1.1 {status}\r\nserver-timing: {TIMING}\r\ncontent-length: 2\r\n\r\n{{}}".encode()
                )
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/of/{{user_id}}")
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@contextlib.asynccontextmanager
async def grpc_server(stall: Stall = no_stall) -> AsyncIterator[Target]:
    """Answers Recommend with no items, and the timing in its trailing metadata."""

    async def recommend(request: bytes, context: Any) -> bytes:
        await stall()
        context.set_trailing_metadata((("server-timing", TIMING),))
        return b""

    handler = grpc.unary_unary_rpc_method_handler(recommend)
    service = grpc.method_handlers_generic_handler("reco.ranking.v1.RankingService", {"Recommend": handler})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield parse(f"grpc://127.0.0.1:{port}")
    finally:
        await server.stop(None)
