"""Who is refused first, and how a refusal by ranking reads in REST."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from runtime.limiter import Bounds, Limiter
from runtime.rpc import start_server
from tests.contract.gateway.conftest import gateway_before
from tests.contract.gateway.fakes import Script, add_services

PATH = "/v1/users/u/recommendations"
SHEDDABLE = {"reco-priority": "sheddable"}


async def test_priority_when_a_call_may_be_shed_goes_along(client: httpx.AsyncClient, script: Script) -> None:
    await client.get("/v1/models", headers=SHEDDABLE)
    await client.get("/v1/models", headers={"reco-priority": "normal"})
    assert [found.get("reco-priority") for found in script.metadata] == ["sheddable", None]


async def test_priority_when_it_is_another_word_is_refused(client: httpx.AsyncClient, script: Script) -> None:
    answer = await client.get("/v1/models", headers={"reco-priority": "high"})
    assert (answer.status_code, answer.json()["metadata"]["field"]) == (400, "Reco-Priority")
    assert not script.requests


async def test_call_when_it_may_be_shed_and_half_is_taken_is_refused_by_the_gateway(
    client: httpx.AsyncClient, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.IN_FLIGHT_SHEDDABLE_MAX", 1)
    script.held["ListModels"] = asyncio.Event()
    first = asyncio.create_task(client.get("/v1/models"))
    await script.asked.wait()
    refused = await client.get("/v1/models", headers=SHEDDABLE)
    assert (refused.status_code, refused.json()["reason"]) == (503, "OVERLOADED")
    second = asyncio.create_task(client.get("/v1/models"))
    script.held["ListModels"].set()
    assert [(await call).status_code for call in (first, second)] == [200, 200]


async def test_call_when_too_many_wait_in_ranking_is_a_429_with_retry_after(script: Script) -> None:
    limiter = Limiter(Bounds(waiting_min=4, waiting_first=4, waiting_max=4))
    ranking, _, port = await start_server("127.0.0.1:0", add_services(script, "ranking"), limiter=limiter)
    targets = {"ranking": f"127.0.0.1:{port}", "ingest": f"127.0.0.1:{port}"}
    async for client in gateway_before(targets):
        for _ in range(2):
            assert (await client.get(PATH)).status_code == 200
        for _ in range(2):
            limiter.enter(0.0)
        assert (await client.get(PATH, headers=SHEDDABLE)).status_code == 429
        assert (await client.get(PATH)).status_code == 200
        for _ in range(2):
            limiter.enter(0.0)
        answer = await client.get(PATH)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert (answer.json()["reason"], answer.json()["metadata"]) == (
            "OVERLOADED",
            {"retry_delay_ms": "1000"},
        )
    await ranking.stop(None)
