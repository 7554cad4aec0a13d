"""uvicorn as this project runs it: told when to stop, and problem+json even for what is not HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import uvicorn
from reco.errors.v1 import error_reason_pb2
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway import limits
from gateway.problems import Problem

# A line for each request that is not HTTP would let callers write our log; they are told in the answer.
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

HEAD_TOO_LONG = f"request line and headers are longer than {limits.HEAD_BYTES_MAX} bytes"


class Protocol(HttpToolsProtocol):
    """uvicorn's, but a request that can't be parsed is refused as every other error is, and its head has an end."""

    head_bytes_count = 0

    def data_received(self, data: bytes) -> None:
        self.head_bytes_count += len(data)
        super().data_received(data)
        if self.head_bytes_count > limits.HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(431, HEAD_TOO_LONG)

    def on_body(self, body: bytes) -> None:
        self.head_bytes_count = 0  # the body has its own limit
        if not self.transport.is_closing():
            super().on_body(body)

    def on_headers_complete(self) -> None:
        self.head_bytes_count = 0
        # A head that came in one piece with the rest was never counted before it was complete.
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > limits.HEAD_BYTES_MAX:
            self._refuse(431, HEAD_TOO_LONG)
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "what came is not HTTP/1.1; mend the client")

    def _refuse(self, status: int, detail: str) -> None:
        problem = Problem(status, error_reason_pb2.ERROR_REASON_BODY_INVALID, detail)
        response = problem.response(uuid.uuid4().hex)
        head = [f"HTTP/1.1 {status} Refused".encode(), b"connection: close"]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's, without its signal handlers: runtime.lifecycle has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=limits.BACKLOG_MAX)


async def serve(app: Any, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serves until `stop` is set; then lets running requests end within the grace."""
    server = Server(_config(app))
    watcher = asyncio.create_task(_stop_when(stop, server))
    try:
        await server.serve(sockets=[listener])
    finally:
        watcher.cancel()


async def _stop_when(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="none",  # the one that runs already
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=limits.BACKLOG_MAX,
        timeout_keep_alive=limits.CONNECTION_IDLE_S_MAX,
        timeout_graceful_shutdown=limits.STOP_S_MAX,
    )
