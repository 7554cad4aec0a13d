"""Every rule of the ranking contract is enforced at the door: the bound itself passes, one beyond it is refused by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from reco.ranking.v1 import (
    model_service_pb2,
    model_service_pb2_grpc,
    ranking_service_pb2,
    ranking_service_pb2_grpc,
)
from reco.ranking.v1.model_service_pb2 import (
    ActivateModelRequest,
    ActivateModelResponse,
    GetModelRequest,
    GetModelResponse,
    ListModelsRequest,
    ListModelsResponse,
)
from reco.ranking.v1.ranking_service_pb2 import (
    Boost,
    ExplainRequest,
    ExplainResponse,
    InlineEvent,
    RankItemsRequest,
    RankItemsResponse,
    RecommendRequest,
    RecommendResponse,
    SimilarItemsRequest,
    SimilarItemsResponse,
)

from runtime.rpc import start_server

NAN, INF = float("nan"), float("inf")


class EmptyRanking(ranking_service_pb2_grpc.RankingServiceServicer):
    """Lets through whatever reaches it."""

    async def Recommend(self, request: RecommendRequest, context: Any) -> RecommendResponse:
        return RecommendResponse()

    async def RankItems(self, request: RankItemsRequest, context: Any) -> RankItemsResponse:
        return RankItemsResponse()

    async def Explain(self, request: ExplainRequest, context: Any) -> ExplainResponse:
        return ExplainResponse()

    async def SimilarItems(self, request: SimilarItemsRequest, context: Any) -> SimilarItemsResponse:
        return SimilarItemsResponse()


class EmptyModels(model_service_pb2_grpc.ModelServiceServicer):
    """Lets through whatever reaches it."""

    async def ListModels(self, request: ListModelsRequest, context: Any) -> ListModelsResponse:
        return ListModelsResponse()

    async def GetModel(self, request: GetModelRequest, context: Any) -> GetModelResponse:
        return GetModelResponse()

    async def ActivateModel(self, request: ActivateModelRequest, context: Any) -> ActivateModelResponse:
        return ActivateModelResponse()


@dataclass(frozen=True)
class Stubs:
    """Both services of one server."""

    ranking: Any
    models: Any


@pytest.fixture
async def stubs() -> AsyncIterator[Stubs]:
    def add_services(server: grpc.aio.Server) -> list[str]:
        ranking_service_pb2_grpc.add_RankingServiceServicer_to_server(EmptyRanking(), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(EmptyModels(), server)
        return ["reco.ranking.v1.RankingService", "reco.ranking.v1.ModelService"]

    server, _, port = await start_server("127.0.0.1:0", add_services)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ranking = ranking_service_pb2_grpc.RankingServiceStub(channel)
        yield Stubs(ranking, model_service_pb2_grpc.ModelServiceStub(channel))
    await server.stop(None)


def item(**fields: Any) -> list[InlineEvent]:
    return [InlineEvent(**{"item_id": "i", **fields})]


def boost(**fields: Any) -> list[Boost]:
    return [Boost(**{"filter": "a=1", **fields})]


# (method, field, a value at the bound, a value beyond it, what the error's path is, the rule)
Case = tuple[str, str, Any, Any, str, str]
TEXTS: list[Case] = [
    (method, field, "é" * bound, "x" * (bound + 1), field, "string.max_len")
    for method, field, bound in (
        ("Recommend", "user_id", 128),
        ("Recommend", "session_id", 128),
        ("Recommend", "surface", 64),
        ("Recommend", "page_token", 8192),
        ("Recommend", "filter", 1024),
        ("Recommend", "minimum_offset", 4096),
        ("RankItems", "user_id", 128),
        ("RankItems", "session_id", 128),
        ("RankItems", "surface", 64),
        ("RankItems", "minimum_offset", 4096),
        ("Explain", "attribution_token", 512),
        ("SimilarItems", "item_id", 128),
        ("SimilarItems", "filter", 1024),
        ("SimilarItems", "surface", 64),
        ("ListModels", "page_token", 256),
        ("GetModel", "version", 64),
        ("ActivateModel", "version", 64),
    )
]
SIZES: list[Case] = [
    case
    for method in ("Recommend", "SimilarItems", "ListModels")
    for case in (
        (method, "page_size", 200, 201, "page_size", "int32.gte_lte"),
        (method, "page_size", 0, -1, "page_size", "int32.gte_lte"),
    )
]
LISTS: list[Case] = [
    (method, field, [at] * bound, [at] * (bound + 1), field, "repeated.max_items")
    for method, field, at, bound in (
        ("Recommend", "recent_events", InlineEvent(item_id="i"), 64),
        ("Recommend", "exclude_item_ids", "i", 1000),
        ("Recommend", "context_item_ids", "i", 16),
        ("Recommend", "boosts", Boost(filter="a=1"), 8),
        ("Explain", "item_ids", "i", 50),
        ("RankItems", "recent_events", InlineEvent(item_id="i"), 64),
        ("RankItems", "item_ids", "i", 1000),
        ("SimilarItems", "exclude_item_ids", "i", 1000),
    )
]
ENTRIES: list[Case] = [
    (method, field, ["x" * 128], ["i", "x" * 129], f"{field}[1]", "string.max_len")
    for method, field in (
        ("Recommend", "exclude_item_ids"),
        ("Recommend", "context_item_ids"),
        ("RankItems", "item_ids"),
        ("Explain", "item_ids"),
        ("SimilarItems", "exclude_item_ids"),
    )
]
OTHERS: list[Case] = [
    ("RankItems", "item_ids", ["i"], [], "item_ids", "repeated.min_items"),
    ("RankItems", "item_ids", ["i"], [""], "item_ids[0]", "string.min_len"),
    ("SimilarItems", "item_id", "i", "", "item_id", "string.min_len"),
    ("GetModel", "version", "v", "", "version", "string.min_len"),
    ("ActivateModel", "version", "v", "", "version", "string.min_len"),
    ("Recommend", "diversity", 1.0, 1.01, "diversity", "double.gte_lte"),
    ("Recommend", "diversity", 0.0, -0.01, "diversity", "double.gte_lte"),
    ("Recommend", "diversity", 0.5, NAN, "diversity", "double.gte_lte"),
    ("Recommend", "max_per_category", 200, 201, "max_per_category", "int32.gte_lte"),
    ("Recommend", "max_per_category", 0, -1, "max_per_category", "int32.gte_lte"),
    ("Recommend", "boosts", boost(filter="x"), boost(filter=""), "boosts[0].filter", "string.min_len"),
    ("Recommend", "boosts", boost(filter="x" * 1024), boost(filter="x" * 1025), "boosts[0].filter", "string.max_len"),
    ("Recommend", "boosts", boost(weight=1), boost(weight=1.01), "boosts[0].weight", "double.gte_lte"),
    ("Recommend", "boosts", boost(weight=-1), boost(weight=NAN), "boosts[0].weight", "double.gte_lte"),
    ("Explain", "item_ids", ["i"], [], "item_ids", "repeated.min_items"),
    ("Explain", "item_ids", ["i"], [""], "item_ids[0]", "string.min_len"),
    ("Explain", "request", RecommendRequest(), None, "request", "required"),
    ("Explain", "request", RecommendRequest(page_size=200), RecommendRequest(page_size=201), "request.page_size", "int32.gte_lte"),
    ("Recommend", "min_score", -1e300, INF, "min_score", "double.finite"),
    ("Recommend", "min_score", 0.0, NAN, "min_score", "double.finite"),
    ("Recommend", "recent_events", item(item_id="x" * 128), item(item_id=""), "recent_events[0].item_id", "string.min_len"),
    ("Recommend", "recent_events", item(), item(item_id="x" * 129), "recent_events[0].item_id", "string.max_len"),
    ("Recommend", "recent_events", item(type=8), item(type=99), "recent_events[0].type", "enum.defined_only"),
    ("Recommend", "recent_events", item(value=5), item(value=INF), "recent_events[0].value", "double.finite"),
]  # fmt: skip
CASES = TEXTS + SIZES + LISTS + ENTRIES + OTHERS
REQUESTS: dict[str, type[Message]] = {
    "Recommend": RecommendRequest,
    "RankItems": RankItemsRequest,
    "SimilarItems": SimilarItemsRequest,
    "Explain": ExplainRequest,
    "ListModels": ListModelsRequest,
    "GetModel": GetModelRequest,
    "ActivateModel": ActivateModelRequest,
}
REQUIRED: dict[str, dict[str, Any]] = {
    "RankItems": {"item_ids": ["i"]},
    "SimilarItems": {"item_id": "i"},
    "Explain": {"request": RecommendRequest(), "item_ids": ["i"]},
    "GetModel": {"version": "v"},
    "ActivateModel": {"version": "v"},
}


def call(stubs: Stubs, method: str, field: str, value: Any) -> Any:
    stub = stubs.models if "Model" in method else stubs.ranking
    return getattr(stub, method)(REQUESTS[method](**{**REQUIRED.get(method, {}), field: value}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}.{case[4]}-{case[5]}")
async def test_request_at_the_bound_passes_and_beyond_it_is_refused_by_name(stubs: Stubs, case: Case) -> None:
    method, field, at, beyond, path, rule = case
    await call(stubs, method, field, at)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(stubs, method, field, beyond)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("FIELD_INVALID", "reco.dev")
    assert (info.metadata["field"], info.metadata["rule"]) == (path, rule)
    assert info.metadata["description"]


def ruled_fields(message: Descriptor, prefix: str = "") -> Iterator[str]:
    for field in message.fields:
        if field.GetOptions().HasExtension(validate_pb2.field):
            yield prefix + field.name
        if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type.full_name.startswith(
            "reco.ranking"
        ):
            yield from ruled_fields(field.message_type, f"{prefix}{field.name}.")


def test_cases_cover_every_field_that_has_a_rule() -> None:
    ruled = {f"{m}.{f}" for m, request in REQUESTS.items() for f in ruled_fields(request.DESCRIPTOR)}
    covered = {f"{case[0]}.{case[4].replace('[0]', '').replace('[1]', '')}" for case in CASES}
    # RankItems shares InlineEvent and Explain the whole request, whose rules are covered through Recommend.
    shared = ("RankItems.recent_events.", "Explain.request.")
    missing = {name for name in ruled - covered if not name.startswith(shared)}
    assert not missing


def test_cases_cover_every_method() -> None:
    services = [ranking_service_pb2.DESCRIPTOR, model_service_pb2.DESCRIPTOR]
    methods = {m.name: m for file in services for s in file.services_by_name.values() for m in s.methods}
    without_fields = {name for name, method in methods.items() if not method.input_type.fields}
    assert set(REQUESTS) | without_fields == set(methods)
