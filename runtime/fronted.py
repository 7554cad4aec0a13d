"""gRPC's server behind a front (runtime/front.py): how the two are put together, started and stopped."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import grpc
from reco.errors.v1 import error_reason_pb2

from runtime import frames, metrics
from runtime.errors import OverloadError, StateError, to_status
from runtime.front import Door
from runtime.limiter import NORMAL, SHEDDABLE, Limiter

BACKLOG_MAX = 1_024  # connections not yet accepted
RETRY_DELAY_MS = (
    1_000  # whole seconds are what Retry-After can say; limits are learnt anew several times in one
)
PRIORITIES = (NORMAL, SHEDDABLE)


class Fronted:
    """gRPC's server behind a front: nobody new comes in once it is told to stop."""

    def __init__(self, server: grpc.aio.Server, door: Door) -> None:
        self._server, self._door = server, door
        self._listening: asyncio.Server | None = None

    async def listen(self, address: str, shares_port: bool) -> int:
        """Takes connections at `address`; returns the port. Raises StateError."""
        host, _, port = address.rpartition(":")
        hosts = [host.strip("[]")]
        if hosts == ["::"]:
            hosts.append("0.0.0.0")  # noqa: S104 -- as gRPC does: who asks for all addresses means both families
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                self._door.client, hosts, int(port), backlog=BACKLOG_MAX, reuse_port=shares_port
            )
        except OSError:
            raise _unheard(address) from None
        return int(self._listening.sockets[0].getsockname()[1])

    async def stop(self, grace: float | None) -> None:
        """As grpc.aio's."""
        if self._listening is not None:
            self._listening.close()
        await self._server.stop(grace)
        await self._door.close()
        shutil.rmtree(Path(self._door.socket_path).parent, ignore_errors=True)


def front_of(server: grpc.aio.Server, limiter: Limiter) -> Fronted:
    """A front for a server that has not started yet, and its metrics. Raises StateError."""
    path = str(
        Path(tempfile.mkdtemp(prefix="reco-")) / "grpc.sock"
    )  # a folder that only this account may enter
    listen(server, f"unix:{path}")
    metrics.CALLS_OPEN.set_function(lambda: limiter.open_count)
    metrics.CALLS_WAITING.set_function(lambda: limiter.waiting_count)
    metrics.CALLS_WAITING_LIMIT.set_function(lambda: limiter.limit)
    refused = {
        sheddable: metrics.CALLS_REFUSED_TOTAL.labels(name) for sheddable, name in enumerate(PRIORITIES)
    }
    block = frames.refusal_block(to_status(overloaded()))
    return Fronted(
        server, Door(limiter, block, path, time.perf_counter, lambda sheddable: refused[sheddable].inc())
    )


def overloaded() -> OverloadError:
    """The refusal of a call, while too many wait."""
    message = f"too many calls wait; nothing was done, retry after {RETRY_DELAY_MS} ms"
    return OverloadError(
        error_reason_pb2.ERROR_REASON_OVERLOADED, message, {"retry_delay_ms": str(RETRY_DELAY_MS)}
    )


def listen(server: grpc.aio.Server, address: str) -> int:
    """Lets a server take connections at `address`; returns the port. Raises StateError."""
    try:
        return server.add_insecure_port(address)
    except RuntimeError:
        raise _unheard(address) from None


def _unheard(address: str) -> StateError:
    message = f"{address} can't be listened on: another process has the port, or the host is not ours; choose another"
    return StateError(error_reason_pb2.ERROR_REASON_INTERNAL, message)
