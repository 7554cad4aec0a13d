"""Every error is problem+json that says whose fault it is; none is a traceback or HTML."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from reco.errors.v1 import error_reason_pb2 as reasons
from reco.ingest.v1 import event_pb2, ingest_service_pb2

from gateway.limits import BODY_BYTES_MAX, HEAD_BYTES_MAX, QUERY_BYTES_MAX, TIMEOUT_MS_MAX
from runtime.errors import CallerError, NotFoundError, OverloadError, StateError, store_unavailable
from tests.contract.gateway.conftest import gateway_before
from tests.contract.gateway.fakes import Script

EVENT = {"id": "e1", "userId": "u1", "itemId": "i1", "type": 1}
JSON = {"content-type": "application/json"}


def problem(answer: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """The problem in an answer, after checking what all have in common."""
    content: dict[str, Any] = answer.json()
    assert (answer.status_code, content["status"], content["reason"]) == (status, status, reason), content
    assert answer.headers["content-type"] == "application/problem+json"
    assert content["type"] == f"urn:reco:problem:{reason}"
    assert content["request_id"] == answer.headers["x-request-id"]
    assert content["title"]
    assert content["detail"]
    assert "Traceback" not in answer.text
    return content


async def test_body_when_a_field_is_unknown_is_refused_with_field_and_message(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/events:write", json={"events": [EVENT, EVENT | {"itemid": "x"}]})
    content = problem(answer, 400, "BODY_INVALID")
    assert content["detail"] == "events[1]: no field 'itemid' in reco.ingest.v1.Event"
    assert content["metadata"]["field"] == "events[1]"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"events": [', "not JSON"),
        (b"[]", "expected an object"),
        (b'{"events": NaN}', "not JSON"),
        (b'{"events": [{"value": 1e999}]}', "not JSON"),
        (b'{"events": [{"value": "NaN"}]}', "events[0].value: expected a finite number"),
        (b'{"events": [{"type": 5000000000}]}', "events[0].type"),
        (b'{"events": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
        (b'{"events": [{"id": "\xff"}]}', "not JSON"),
        (b'{"events": [{"id": "\\ud800"}]}', "not JSON"),
    ],
)
async def test_body_when_it_does_not_fit_is_refused(
    client: httpx.AsyncClient, body: bytes, words: str
) -> None:
    answer = await client.post("/v1/events:write", content=body, headers=JSON)
    assert words in problem(answer, 400, "BODY_INVALID")["detail"]


async def test_rule_when_it_is_broken_is_named_by_the_json_path(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events:write", json={"events": [EVENT, EVENT | {"itemId": ""}]})
    content = problem(answer, 400, "FIELD_INVALID")
    assert content["metadata"]["field"] == "events[1].itemId"
    assert content["metadata"]["rule"] == "string.min_len"
    assert content["detail"].startswith("events[1].itemId: ")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/users/u1/recommendations?pagesize=3", "pagesize"),
        ("/v1/users/u1/recommendations?pageSize=many", "pageSize"),
        ("/v1/users/u1/recommendations?pageSize=3&page_size=4", "pageSize"),
        ("/v1/users/u1/recommendations?user_id=u2", "user_id"),
        ("/v1/users/u1/recommendations?recentEvents=x", "recentEvents"),
        ("/v1/users/u1/recommendations?filter=%ff", "query"),
        ("/v1/users/u1/recommendations?filter=" + "x" * QUERY_BYTES_MAX, "query"),
        ("/v1/users/%ff/recommendations", "user_id"),
    ],
)
async def test_url_when_a_part_does_not_fit_names_it(
    client: httpx.AsyncClient, path: str, field: str
) -> None:
    assert problem(await client.get(path), 400, "FIELD_INVALID")["metadata"]["field"] == field


async def test_query_when_the_call_has_a_body_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/items:delete?itemIds=a", json={"itemIds": ["a"]})
    assert "in the body" in problem(answer, 400, "FIELD_INVALID")["detail"]


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/models/", "/v1/users//recommendations", "/docs/../x", "/%00"]
)
async def test_path_when_unknown_is_a_404_problem(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(path), 404, "ROUTE_UNKNOWN")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/events:write", {"POST"}),
        ("DELETE", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/v1/models/m1", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_method_when_not_allowed_is_a_405_with_allow(
    client: httpx.AsyncClient, method: str, path: str, allow: set[str]
) -> None:
    answer = await client.request(method, path)
    problem(answer, 405, "ROUTE_UNKNOWN")
    assert set(answer.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_when_too_large_is_a_413_with_the_limit(
    client: httpx.AsyncClient, script: Script, chunked: bool
) -> None:
    async def parts() -> Any:
        for _ in range(BODY_BYTES_MAX // 65_536 + 1):
            yield b" " * 65_536

    content = parts() if chunked else b" " * (BODY_BYTES_MAX + 1)
    answer = await client.post("/v1/events:write", content=content, headers=JSON)
    assert problem(answer, 413, "MESSAGE_TOO_LARGE")["metadata"] == {"bytes_max": str(BODY_BYTES_MAX)}
    assert script.requests == []


async def test_body_when_its_protobuf_is_too_large_is_a_413(client: httpx.AsyncClient) -> None:
    item = {"id": "i", "numericAttributes": {f"{n:x}": 1 for n in range(1000)}}
    answer = await client.post("/v1/items:upsert", json={"items": [item] * 300})
    problem(answer, 413, "MESSAGE_TOO_LARGE")


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json; charset=latin-1", "application/xml"])
async def test_body_when_not_called_json_is_a_415(client: httpx.AsyncClient, kind: str) -> None:
    answer = await client.post("/v1/events:write", content=b"{}", headers={"content-type": kind})
    problem(answer, 415, "BODY_INVALID")
    assert answer.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    ("error", "status", "reason", "retry_after"),
    [
        (CallerError(reasons.ERROR_REASON_FILTER_INVALID, "bad", {"field": "filter"}), 400, "FILTER_INVALID", None),
        (NotFoundError(reasons.ERROR_REASON_MODEL_UNKNOWN, "which?", {}), 404, "MODEL_UNKNOWN", None),
        (StateError(reasons.ERROR_REASON_NO_MODEL, "train first"), 400, "NO_MODEL", None),
        (store_unavailable("postgres", OSError()), 503, "STORE_UNAVAILABLE", "1"),
        (
            OverloadError(reasons.ERROR_REASON_STREAM_FULL, "full", {"retry_delay_ms": "2500"}),
            429, "STREAM_FULL", "3",
        ),
        (RuntimeError("secret words"), 500, "INTERNAL", None),
    ],
)  # fmt: skip
async def test_call_when_the_service_refuses_passes_its_reason_on(
    client: httpx.AsyncClient,
    script: Script,
    error: Exception,
    status: int,
    reason: str,
    retry_after: str | None,
) -> None:
    script.answers["ListModels"] = error
    answer = await client.get("/v1/models")
    content = problem(answer, status, reason)
    assert answer.headers.get("retry-after") == retry_after
    assert "secret" not in answer.text
    assert content["metadata"] == getattr(error, "metadata", content["metadata"])


async def test_call_when_nobody_listens_upstream_is_a_503_with_retry_after() -> None:
    async for client in gateway_before({"ingest": "127.0.0.1:1", "ranking": "127.0.0.1:1"}):
        answer = await client.get("/v1/models")
        assert problem(answer, 503, "SERVICE_UNAVAILABLE")["metadata"]["service"] == "ranking"
        assert answer.headers["retry-after"] == "1"
        problem(await client.get("/readyz"), 503, "SERVICE_UNAVAILABLE")
        assert (await client.get("/healthz")).status_code == 200


async def test_call_when_the_service_takes_too_long_is_a_504(
    client: httpx.AsyncClient, script: Script
) -> None:
    script.held["ListModels"] = asyncio.Event()
    answer = await client.get("/v1/models", headers={"x-request-timeout-ms": "20"})
    assert problem(answer, 504, "DEADLINE_EXCEEDED")["metadata"] == {"timeout_ms": "20"}
    script.held["ListModels"].set()


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "soon", str(TIMEOUT_MS_MAX + 1), "9" * 30])
async def test_timeout_when_out_of_range_is_refused(client: httpx.AsyncClient, text: str) -> None:
    answer = await client.get("/v1/models", headers={"x-request-timeout-ms": text})
    problem(answer, 400, "FIELD_INVALID")


async def test_call_when_too_many_are_in_flight_is_refused_at_once(
    client: httpx.AsyncClient, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.IN_FLIGHT_MAX", 1)
    script.held["ListModels"] = asyncio.Event()
    first = asyncio.create_task(client.get("/v1/models"))
    await script.asked.wait()
    problem(await client.get("/v1/models"), 503, "OVERLOADED")
    script.held["ListModels"].set()
    assert (await first).status_code == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: ".ljust(HEAD_BYTES_MAX + 1, b"y"), 431),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 2\r\nx: ".ljust(HEAD_BYTES_MAX + 50, b"y") + b"\r\n\r\n{}",
            431,
        ),
    ],
)
async def test_connection_when_it_is_not_http_or_has_no_end_is_refused_as_a_problem(
    client: httpx.AsyncClient, raw: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in answer


async def test_outcome_when_an_event_is_rejected_is_part_of_the_answer(
    client: httpx.AsyncClient, script: Script
) -> None:
    outcome = ingest_service_pb2.EventOutcome(
        event_id="e1",
        status=ingest_service_pb2.EventOutcome.STATUS_REJECTED,
        reason=reasons.ERROR_REASON_ITEM_UNKNOWN,
    )
    script.answers["WriteEvents"] = ingest_service_pb2.WriteEventsResponse(
        outcomes=[outcome], rejected_count=1
    )
    answer = await client.post("/v1/events:write", json={"events": [EVENT]})
    assert answer.json()["outcomes"][0]["reason"] == "ERROR_REASON_ITEM_UNKNOWN"
    assert script.requests[0].events[0].type == event_pb2.EVENT_TYPE_VIEW  # type: ignore[attr-defined]
