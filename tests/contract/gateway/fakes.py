"""Small services behind the gateway: they implement the real interface, keep what they were asked, and answer what a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.message import Message
from reco.ingest.v1 import ingest_service_pb2_grpc as ingest_grpc
from reco.ranking.v1 import model_service_pb2_grpc as model_grpc
from reco.ranking.v1 import ranking_service_pb2_grpc as ranking_grpc

from gateway.routes import bindings_of
from runtime.rpc import Timed

Handler = Callable[[Any, Any], Awaitable[Message]]


class Script:
    """What the services were asked, and what they are to answer, by the RPC's name."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.metadata: list[dict[str, str]] = []
        self.answers: dict[str, Message | Exception] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.asked = asyncio.Event()
        self.stages = ""  # what the services tell of their times

    async def play(self, name: str, empty: Message, request: Message, context: Any) -> Message | Timed:
        self.requests.append(request)
        self.asked.set()
        self.metadata.append(dict(context.invocation_metadata()))
        if name in self.held:
            await self.held[name].wait()
        answer = self.answers.get(name, empty)
        if isinstance(answer, Exception):
            raise answer
        return Timed(answer, self.stages) if self.stages else answer


def add_services(script: Script, upstream: str) -> Callable[[grpc.aio.Server], list[str]]:
    """Registers the fakes of one upstream at a server of runtime.rpc."""
    interfaces = {
        "ingest": [(ingest_grpc.IngestServiceServicer, ingest_grpc.add_IngestServiceServicer_to_server)],
        "ranking": [
            (ranking_grpc.RankingServiceServicer, ranking_grpc.add_RankingServiceServicer_to_server),
            (model_grpc.ModelServiceServicer, model_grpc.add_ModelServiceServicer_to_server),
        ],
    }[upstream]

    def add(server: grpc.aio.Server) -> list[str]:
        for interface, register in interfaces:
            register(_servicer(interface, script), server)  # type: ignore[operator]  # one of three pairs
        return sorted({b.rpc.containing_service.full_name for b in bindings_of() if b.upstream == upstream})

    return add


def _servicer(interface: Any, script: Script) -> Any:
    methods = {b.rpc.name: _method(b.rpc, script) for b in bindings_of() if hasattr(interface, b.rpc.name)}
    return type("Fake", (interface,), methods)()


def _method(rpc: Any, script: Script) -> Any:
    response = message_factory.GetMessageClass(rpc.output_type)

    async def method(self: Any, request: Message, context: Any) -> Message | Timed:
        return await script.play(rpc.name, response(), request, context)

    return method
