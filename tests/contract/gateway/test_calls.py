"""REST calls arrive as the contract's messages, and answers come back as ProtoJSON."""

from __future__ import annotations

import re

import httpx
import pytest
from reco.ingest.v1 import event_pb2, ingest_service_pb2
from reco.ranking.v1 import model_service_pb2, ranking_service_pb2

from gateway.limits import RETRY_ATTEMPTS_MAX
from runtime.errors import store_unavailable
from tests.contract.gateway.fakes import Script

EVENT = {"id": "e1", "userId": "u1", "item_id": "i1", "type": "EVENT_TYPE_RATING", "value": 4.5}


async def test_write_events_when_body_is_json_reaches_ingest_as_a_message(
    client: httpx.AsyncClient, script: Script
) -> None:
    outcome = ingest_service_pb2.EventOutcome(
        event_id="e1", status=ingest_service_pb2.EventOutcome.STATUS_ACCEPTED, offset="0:1-0"
    )
    script.answers["WriteEvents"] = ingest_service_pb2.WriteEventsResponse(
        outcomes=[outcome], offset="0:1-0", accepted_count=1
    )

    answer = await client.post("/v1/events:write", json={"events": [EVENT]})

    event = event_pb2.Event(id="e1", user_id="u1", item_id="i1", type=event_pb2.EVENT_TYPE_RATING, value=4.5)
    assert script.requests == [ingest_service_pb2.WriteEventsRequest(events=[event])]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "outcomes": [
            {
                "eventId": "e1",
                "status": "STATUS_ACCEPTED",
                "offset": "0:1-0",
                "reason": "ERROR_REASON_UNSPECIFIED",
                "message": "",
            }
        ],
        "offset": "0:1-0",
        "acceptedCount": 1,
        "duplicateCount": 0,
        "rejectedCount": 0,
    }


async def test_recommend_when_asked_by_get_reads_path_and_query(
    client: httpx.AsyncClient, script: Script
) -> None:
    script.answers["Recommend"] = ranking_service_pb2.RecommendResponse(
        items=[{"item_id": "i1", "score": 1.5, "source": "SOURCE_PERSONAL"}],
        degradations=[ranking_service_pb2.DEGRADATION_SHORT],
    )
    answer = await client.get(
        "/v1/users/a%2Fb%20%C3%A9/recommendations",
        params={"pageSize": 5, "exclude_item_ids": ["x", "y"], "minScore": "0.5", "includeSeen": "true"},
    )
    assert script.requests == [
        ranking_service_pb2.RecommendRequest(
            user_id="a/b é", page_size=5, exclude_item_ids=["x", "y"], min_score=0.5, include_seen=True
        )
    ]
    assert answer.json() == {
        "items": [{"itemId": "i1", "score": 1.5, "source": "SOURCE_PERSONAL", "propensity": 0.0}],
        "nextPageToken": "",
        "modelVersion": "",
        "attributionToken": "",
        "degradations": ["DEGRADATION_SHORT"],
        "surfacesVersion": "",
    }


async def test_recommend_when_asked_by_post_takes_inline_events(
    client: httpx.AsyncClient, script: Script
) -> None:
    body = {"sessionId": "s1", "recentEvents": [{"itemId": "i1", "type": "EVENT_TYPE_LIKE"}]}
    assert (await client.post("/v1/recommendations:recommend", json=body)).status_code == 200
    event = ranking_service_pb2.InlineEvent(item_id="i1", type=event_pb2.EVENT_TYPE_LIKE)
    assert script.requests == [ranking_service_pb2.RecommendRequest(session_id="s1", recent_events=[event])]


async def test_activate_when_the_verb_follows_a_variable_is_not_taken_for_a_version(
    client: httpx.AsyncClient, script: Script
) -> None:
    script.answers["ActivateModel"] = model_service_pb2.ActivateModelResponse(
        model={"version": "m:1", "item_count": 2**60, "metrics": {"ndcg": 0.5}}
    )
    answer = await client.post("/v1/models/m:1:activate")
    assert script.requests == [model_service_pb2.ActivateModelRequest(version="m:1")]
    model = answer.json()["model"]
    assert (model["itemCount"], model["metrics"]) == (str(2**60), {"ndcg": 0.5})
    assert "activateTime" not in model


async def test_call_when_it_has_ids_passes_them_on_and_back(
    client: httpx.AsyncClient, script: Script
) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    answer = await client.get("/v1/models", headers={"x-request-id": "my-1", "traceparent": trace})
    assert answer.headers["x-request-id"] == "my-1"
    assert script.metadata[0]["x-request-id"] == "my-1"
    assert script.metadata[0]["traceparent"] == trace


async def test_call_when_its_ids_are_rubbish_gets_a_new_one(
    client: httpx.AsyncClient, script: Script
) -> None:
    answer = await client.get("/v1/models", headers={"x-request-id": "a b", "traceparent": "x"})
    assert len(answer.headers["x-request-id"]) == 32
    assert script.metadata[0]["x-request-id"] == answer.headers["x-request-id"]
    assert "traceparent" not in script.metadata[0]


async def test_head_when_get_is_allowed_has_the_headers_alone(client: httpx.AsyncClient) -> None:
    answer = await client.head("/v1/models")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


async def test_call_when_the_service_comes_back_is_answered_again(
    client: httpx.AsyncClient, script: Script
) -> None:
    script.answers["ListModels"] = store_unavailable("postgres", OSError())
    assert (await client.get("/v1/models")).status_code == 503
    del script.answers["ListModels"]
    assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.parametrize(
    ("path", "attempts"), [("/v1/models/m1:activate", RETRY_ATTEMPTS_MAX), ("/v1/models:rollBack", 1)]
)
async def test_call_when_unavailable_is_repeated_only_where_the_contract_calls_it_safe(
    client: httpx.AsyncClient, script: Script, path: str, attempts: int
) -> None:
    for name in ("ActivateModel", "RollBackModel"):
        script.answers[name] = store_unavailable("postgres", OSError())
    assert (await client.post(path)).status_code == 503
    assert len(script.requests) == attempts


async def test_ready_when_both_services_serve_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert answer.json() == {"status": "ready", "services": {"ingest": "SERVING", "ranking": "SERVING"}}


async def test_metrics_when_calls_were_made_count_them_by_route(client: httpx.AsyncClient) -> None:
    await client.get("/v1/models/m1")
    await client.get("/v1/nothing")
    text = (await client.get("/metrics")).text
    assert 'reco_gateway_seconds_count{route="/v1/models/{version}",status="200"}' in text
    assert 'reco_gateway_seconds_count{route="other",status="404"}' in text


TIMING = re.compile(r"total;dur=[0-9]+\.[0-9]{3}")


async def test_answer_when_the_service_tells_its_times_has_them_as_a_header(
    client: httpx.AsyncClient, script: Script
) -> None:
    script.stages = "profile;dur=0.081, select;dur=0.010"
    answer = await client.get("/v1/users/ann/recommendations")
    stages, _, total = answer.headers["server-timing"].rpartition(", ")
    assert answer.status_code == 200
    assert stages == script.stages
    assert TIMING.fullmatch(total)


async def test_problem_when_the_service_refuses_has_its_total_as_a_header(
    client: httpx.AsyncClient, script: Script
) -> None:
    script.answers["Recommend"] = store_unavailable("redis", OSError())
    answer = await client.get("/v1/users/ann/recommendations")
    assert answer.status_code == 503
    assert TIMING.fullmatch(answer.headers["server-timing"])
