"""The front before a real server: real clients that are refused, let in, given up and cut off."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from bench.load import flood, schedule, target
from bench.processes import free_port
from runtime import metrics
from runtime.errors import StateError
from runtime.limiter import Bounds, Limiter
from runtime.rpc import start_server

METHOD = "/reco.ranking.v1.RankingService/Recommend"
ROOM = 4
BOUNDS = Bounds(waiting_min=ROOM, waiting_first=ROOM, waiting_max=ROOM)


class Echo:
    """Answers with what it was asked, once the gate is open."""

    def __init__(self) -> None:
        self.gate, self.entered = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def recommend(self, request: BytesValue, context: Any) -> BytesValue:
        self.entered.set()
        await self.gate.wait()
        return request

    def add(self, server: grpc.aio.Server) -> list[str]:
        handler: Any = grpc.unary_unary_rpc_method_handler(
            self.recommend, BytesValue.FromString, BytesValue.SerializeToString
        )
        service = METHOD.split("/")[1]
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Recommend": handler}),)
        )
        return [service]


@dataclass
class Running:
    """A server behind a front, and a client that may be refused."""

    echo: Echo
    limiter: Limiter
    port: int
    channel: grpc.aio.Channel

    def call(self, body: bytes = b"hello", sheddable: bool = False) -> Any:
        method: Any = self.channel.unary_unary(
            METHOD,
            request_serializer=BytesValue.SerializeToString,
            response_deserializer=BytesValue.FromString,
        )
        metadata = (("reco-priority", "sheddable"),) if sheddable else ()
        return method(BytesValue(value=body), metadata=metadata)

    def fill(self, count: int) -> None:
        """As if so many calls waited."""
        for _ in range(count):
            self.limiter.enter(0.0)

    def drain(self, count: int) -> None:
        """Undoes `fill`."""
        for _ in range(count):
            self.limiter.close()

    async def is_idle(self) -> None:
        """Returns when no call is open."""
        async with asyncio.timeout(10):
            while self.limiter.open_count or self.limiter.running_count:  # noqa: ASYNC110 -- the server notices by itself
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    echo, limiter = Echo(), Limiter(BOUNDS)
    server, _, port = await start_server("127.0.0.1:0", echo.add, limiter=limiter)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        found = Running(echo, limiter, port, channel)
        for _ in range(2):  # a client is refused only once it has had an answer
            await found.call()
        yield found
    await server.stop(None)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_call_when_too_many_wait_is_refused_with_its_reason_and_a_delay(running: Running) -> None:
    running.fill(ROOM)
    error = await refused(running.call())
    running.drain(ROOM)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(error)
    assert status is not None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.metadata["retry_delay_ms"]) == ("OVERLOADED", "1000")
    assert retry.retry_delay.ToMilliseconds() == 1000


async def test_call_when_there_is_room_again_is_answered_on_the_same_connection(running: Running) -> None:
    running.fill(ROOM)
    await refused(running.call())
    running.drain(ROOM)
    assert (await running.call()).value == b"hello"


async def test_call_when_it_may_be_shed_is_refused_before_others(running: Running) -> None:
    def count(priority: str) -> float:
        labels = {"priority": priority}
        return metrics.REGISTRY.get_sample_value("reco_calls_refused_total", labels) or 0.0

    before = count("normal"), count("sheddable")
    running.fill(ROOM // 2)
    error = await refused(running.call(sheddable=True))
    assert (await running.call()).value == b"hello"
    running.drain(ROOM // 2)
    assert (await running.call(sheddable=True)).value == b"hello"
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (count("normal") - before[0], count("sheddable") - before[1]) == (0, 1)


async def test_other_services_when_too_many_wait_answer(running: Running) -> None:
    running.fill(ROOM)
    health = await health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest())
    reflected = reflection_pb2_grpc.ServerReflectionStub(running.channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    names = [service.name async for each in reflected for service in each.list_services_response.service]
    running.drain(ROOM)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "reco.ranking.v1.RankingService" in names


async def test_requests_when_large_ones_are_refused_leave_the_connection_its_window(running: Running) -> None:
    body = bytes(range(256)) * 4_000  # 1 MB: far more than a window, thirty times
    running.fill(ROOM)
    errors = [await refused(running.call(body)) for _ in range(30)]
    running.drain(ROOM)
    assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert (await running.call(body)).value == body


async def test_call_when_its_caller_gives_it_up_makes_room(running: Running) -> None:
    running.echo.gate.clear()
    running.echo.entered.clear()
    calls = [running.call() for _ in range(3)]
    await running.echo.entered.wait()
    for call in calls:
        call.cancel()
    await running.is_idle()
    running.echo.gate.set()
    assert (await running.call()).value == b"hello"


async def test_connection_when_it_is_cut_makes_room(running: Running) -> None:
    running.echo.gate.clear()
    running.echo.entered.clear()
    call = asyncio.ensure_future(running.call())
    await running.echo.entered.wait()
    await running.channel.close()
    await asyncio.gather(call, return_exceptions=True)
    await running.is_idle()


async def test_server_when_it_stops_ends_its_connections_and_takes_no_new_ones() -> None:
    echo = Echo()
    server, _, port = await start_server("127.0.0.1:0", echo.add, limiter=Limiter())
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await server.stop(None)
    writer.close()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_start_when_the_port_is_taken_says_so(running: Running) -> None:
    with pytest.raises(StateError, match=f":{running.port} can't be listened on"):
        await start_server(f"127.0.0.1:{running.port}", Echo().add, limiter=Limiter())


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_server_when_it_binds_all_addresses_is_reached_by_both_families() -> None:
    echo, port = Echo(), free_port()
    try:
        server, _, _ = await start_server(f"[::]:{port}", echo.add, limiter=Limiter())
    except StateError:
        pytest.skip("the host has no IPv6")
    for host in ("127.0.0.1", "[::1]"):
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
            assert (await Running(echo, Limiter(), port, channel).call()).value == b"hello"
    await server.stop(None)


async def test_flood_when_far_too_many_come_ends_every_call_with_an_answer_or_a_refusal(
    running: Running,
) -> None:
    where = target.Target("grpc", "127.0.0.1", running.port, METHOD)
    plan = schedule.draw(rate=4_000, seconds=1.0, warm_up_s=0.0, user_count=2, seed=7)
    requests = [BytesValue(value=text).SerializeToString() for text in (b"one", b"two" * 200)]
    found = await asyncio.to_thread(flood.run, where, plan, requests, 8, 0.5, 7)
    await running.is_idle()
    statuses = Counter(found["normal"]["statuses"]) + Counter(found["sheddable"]["statuses"])
    assert set(statuses) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert statuses.total() == len(plan.times_s)
    assert statuses["OK"] > 0
