"""The server that every service stands on: what it says when it can't start, and how many calls it takes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from reco.ingest.v1 import ingest_service_pb2_grpc
from reco.ingest.v1.ingest_service_pb2 import DeleteItemsRequest, DeleteItemsResponse

from runtime import metrics, rpc
from runtime.errors import StateError


class Waiting(ingest_service_pb2_grpc.IngestServiceServicer):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.entered, self.go_on = asyncio.Event(), asyncio.Event()

    async def DeleteItems(self, request: DeleteItemsRequest, context: Any) -> DeleteItemsResponse:
        self.entered.set()
        await self.go_on.wait()
        return DeleteItemsResponse()

    def add(self, server: grpc.aio.Server) -> list[str]:
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(self, server)
        return ["reco.ingest.v1.IngestService"]


REQUEST = DeleteItemsRequest(item_ids=["i"])


async def test_start_when_the_port_is_taken_says_so() -> None:
    server, _, port = await rpc.start_server("127.0.0.1:0", Waiting().add)
    with pytest.raises(StateError, match=f":{port} can't be listened on"):
        await rpc.start_server(f"127.0.0.1:{port}", Waiting().add)
    await server.stop(None)


async def test_call_when_too_many_run_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "CALLS_MAX", 1)
    service = Waiting()
    server, _, port = await rpc.start_server("127.0.0.1:0", service.add)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
        first = asyncio.ensure_future(stub.DeleteItems(REQUEST))
        await service.entered.wait()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.DeleteItems(REQUEST)
        service.go_on.set()
        await first
    await server.stop(None)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_call_when_its_caller_goes_away_is_counted_as_cancelled() -> None:
    def count(code: str) -> float:
        labels = {"method": "DeleteItems", "code": code}
        return metrics.REGISTRY.get_sample_value("reco_rpc_seconds_count", labels) or 0.0

    service = Waiting()
    server, _, port = await rpc.start_server("127.0.0.1:0", service.add)
    before = {code: count(code) for code in ("OK", "CANCELLED")}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ingest_service_pb2_grpc.IngestServiceStub(channel).DeleteItems(REQUEST)
        await service.entered.wait()
        call.cancel()
        async with asyncio.timeout(10):
            while count("CANCELLED") == before["CANCELLED"]:  # noqa: ASYNC110 -- the server notices by itself
                await asyncio.sleep(0.01)
    await server.stop(None)
    assert count("OK") == before["OK"]


class Answering(ingest_service_pb2_grpc.IngestServiceServicer):
    """Answers with what it was given, of whatever kind."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def DeleteItems(self, request: DeleteItemsRequest, context: Any) -> Any:
        return self.answer

    def add(self, server: grpc.aio.Server) -> list[str]:
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(self, server)
        return ["reco.ingest.v1.IngestService"]


WHOLE = DeleteItemsResponse(deleted_count=7)


@pytest.mark.parametrize(
    ("answer", "stages"),
    [
        (WHOLE, []),
        (WHOLE.SerializeToString(), []),
        (rpc.Timed(WHOLE, "profile;dur=0.081"), ["profile;dur=0.081"]),
        (rpc.Timed(WHOLE.SerializeToString(), "a;dur=1, b;dur=2"), ["a;dur=1", "b;dur=2"]),
    ],
    ids=["message", "bytes", "timed message", "timed bytes"],
)
async def test_call_when_handler_answers_in_any_form_arrives_with_its_timing(
    answer: Any, stages: list[str]
) -> None:
    def seconds() -> float:
        labels = {"method": "DeleteItems", "code": "OK"}
        return metrics.REGISTRY.get_sample_value("reco_rpc_seconds_sum", labels) or 0.0

    server, _, port = await rpc.start_server("127.0.0.1:0", Answering(answer).add)
    before = seconds()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ingest_service_pb2_grpc.IngestServiceStub(channel).DeleteItems(REQUEST)
        assert await call == WHOLE
        metadata = dict(await call.trailing_metadata())
    await server.stop(None)
    *named, total = metadata["server-timing"].split(", ")
    assert named == stages
    assert float(total.removeprefix("total;dur=")) == pytest.approx((seconds() - before) * 1000, abs=0.001)


async def test_call_when_handler_answers_with_what_is_no_message_is_internal() -> None:
    server, _, port = await rpc.start_server("127.0.0.1:0", Answering("text").add)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ingest_service_pb2_grpc.IngestServiceStub(channel).DeleteItems(REQUEST)
    await server.stop(None)
    assert raised.value.code() == grpc.StatusCode.INTERNAL


async def test_call_when_it_fails_tells_its_total_beside_the_details() -> None:
    server, _, port = await rpc.start_server("127.0.0.1:0", Answering(None).add)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.DeleteItems(DeleteItemsRequest(item_ids=[""]))
    await server.stop(None)
    metadata = dict(raised.value.trailing_metadata() or ())
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "grpc-status-details-bin" in metadata
    assert str(metadata["server-timing"]).startswith("total;dur=")
