"""The ingest scenario at its smallest: every figure is there, and what was sent has come in. What the figures are is not looked at."""

from __future__ import annotations

import os

import pytest
from reco.ingest.v1.event_pb2 import Event
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest

from bench import ingest_load
from bench.scenarios import ingest
from bench.scenarios.context import cores
from runtime.rpc import validate


def test_ingest_scenario_when_run_at_its_smallest_has_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f".{os.pathsep}gen")
    found = ingest.ingest(*cores(), ingest.TINY)
    assert set(found.metrics) == {
        "ingest_events_s", "ingest_over_xadd", "write_event_ms_p99", "sink_profile_events_s", "sink_postgres_events_s",
        "sink_lake_events_s",
    }  # fmt: skip
    assert all(value is not None and value > 0 for value in found.metrics.values())
    assert [each["ingest"]["events"] for each in found.details["rounds"]] == [ingest.TINY.events]
    assert [each["failed"] for each in found.details["single"]] == [0]
    assert [each["count"] for each in found.details["single"]] == [ingest.SINGLE_RATE * ingest.TINY.single_s]


def test_requests_hold_to_the_contract_and_no_event_comes_twice() -> None:
    made = [WriteEventsRequest.FromString(request) for request in ingest_load.requests(5, 100, 1_790_000_000)]
    for request in made:
        validate(request)
    events: list[Event] = [event for request in made for event in request.events]
    assert len({event.id for event in events}) == 500
    assert len({event.user_id for event in events}) > 400
