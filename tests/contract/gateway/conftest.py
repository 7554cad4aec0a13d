"""A real gateway on a real socket, in front of real gRPC servers with small fakes in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from gateway.app import build_app
from gateway.routes import bindings_of
from gateway.server import listen, serve
from gateway.upstream import Upstreams
from runtime.rpc import start_server, stop_server
from tests.contract.gateway.fakes import Script, add_services


@pytest.fixture
def script() -> Script:
    return Script()


@pytest_asyncio.fixture
async def targets(script: Script) -> AsyncIterator[dict[str, str]]:
    """host:port of both upstreams."""
    servers = {
        name: await start_server("127.0.0.1:0", add_services(script, name)) for name in ("ingest", "ranking")
    }
    yield {name: f"127.0.0.1:{port}" for name, (_, _, port) in servers.items()}
    for server, health, _ in servers.values():
        await stop_server(server, health)


@pytest_asyncio.fixture
async def client(targets: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    async for http in gateway_before(targets):
        yield http


async def gateway_before(targets: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Runs a gateway before `targets`, and a client at it."""
    bindings = bindings_of()
    upstreams = Upstreams(targets, bindings)
    listener = listen("127.0.0.1", 0)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(build_app(bindings, upstreams), listener, stop))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        yield http
    stop.set()
    await serving
    await upstreams.close()
