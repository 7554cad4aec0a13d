"""A load waits for a system that is away or full, as long as it is told to, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from reco.errors.v1 import error_reason_pb2
from reco.ingest.v1 import ingest_service_pb2 as pb
from reco.ingest.v1 import ingest_service_pb2_grpc as pb_grpc
from reco.ingest.v1.event_pb2 import Event

from cli.loading.sender import RETRY_DELAY_S, Sender, Sent
from cli.system import calls
from ingest.server import add_service
from ingest.writer import ACCEPTED
from runtime.errors import OverloadError, RecoError, store_unavailable
from runtime.rpc import start_server
from tests.integration.ingest.harness import free_port
from tests.integration.ingest.samples import event

FULL = OverloadError(error_reason_pb2.ERROR_REASON_STREAM_FULL, "full", {"retry_delay_ms": "2500"})


class Moody(pb_grpc.IngestServiceServicer):
    """Refuses the first calls with these errors, then takes everything."""

    def __init__(self, errors: list[RecoError]) -> None:
        self.errors = errors

    async def WriteEvents(self, request: pb.WriteEventsRequest, context: Any) -> pb.WriteEventsResponse:
        if self.errors:
            raise self.errors.pop(0)
        outcomes = [pb.EventOutcome(event_id=each.id, status=ACCEPTED) for each in request.events]
        return pb.WriteEventsResponse(outcomes=outcomes, accepted_count=len(outcomes))


class KnowsAll:
    """No item is unknown."""

    def among(self, ids: object) -> list[Any]:
        return []

    def remember(self, ids: object) -> None:
        pass


class Clock:
    """Time passes by sleeping alone."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []

    def sleep(self, wait_s: float) -> None:
        self.slept_s.append(wait_s)

    def time_s(self) -> float:
        return sum(self.slept_s)


async def send(port: int, clock: Clock, events: list[Event]) -> Sent:
    def work() -> Sent:
        with calls(pb_grpc.IngestServiceStub, "127.0.0.1", port) as stub:
            return Sender(stub, KnowsAll(), 10.0, clock.sleep, clock.time_s).send_events(events)  # type: ignore[arg-type]

    return await asyncio.to_thread(work)


async def test_send_when_the_service_is_full_or_its_store_away_waits_as_long_as_it_asks() -> None:
    service = Moody([FULL, store_unavailable("redis", OSError())])
    server, _, port = await start_server("127.0.0.1:0", add_service(service))  # type: ignore[arg-type]
    clock = Clock()

    sent = await send(port, clock, [event(), event()])

    await server.stop(None)
    assert sent.accepted == 2
    assert clock.slept_s == [2.5, 0.5]


async def test_send_when_nobody_listens_ends_after_the_limit() -> None:
    clock = Clock()
    with pytest.raises(grpc.RpcError) as raised:
        await send(free_port(), clock, [event()])
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert clock.slept_s == [RETRY_DELAY_S] * 10
