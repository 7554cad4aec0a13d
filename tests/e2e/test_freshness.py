"""How soon an acknowledged event counts in Recommend: a canary, as a report. What it asserts is that each one counts at all."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import grpc
import pytest
from reco.ingest.v1 import event_pb2, ingest_service_pb2
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from reco.ranking.v1 import ranking_service_pb2
from reco.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from tests.e2e.system import FRESHNESS_REPORT, WAIT_S_MAX, System

pytestmark = pytest.mark.e2e

CANARY_COUNT = 300


def canary(ingest: IngestServiceStub, ranking: RankingServiceStub) -> float:
    """Seconds from the acknowledgement of an event about the first item of an answer to the first answer without it."""
    request = ranking_service_pb2.RecommendRequest(user_id=f"canary-{uuid.uuid4()}", page_size=5)
    item = ranking.Recommend(request).items[0].item_id
    event = event_pb2.Event(
        id=uuid.uuid4().hex, user_id=request.user_id, item_id=item, type=event_pb2.EVENT_TYPE_CLICK
    )
    answer = ingest.WriteEvents(ingest_service_pb2.WriteEventsRequest(events=[event]))
    acknowledged_s = time.perf_counter()
    assert answer.accepted_count == 1
    while item in [found.item_id for found in ranking.Recommend(request).items]:
        assert time.perf_counter() - acknowledged_s < WAIT_S_MAX
    return time.perf_counter() - acknowledged_s


def test_freshness_when_events_are_acknowledged_each_counts_in_recommend(system: System) -> None:
    ports = system.ports
    with (
        grpc.insecure_channel(f"127.0.0.1:{ports['INGEST_PORT']}") as to_ingest,
        grpc.insecure_channel(f"127.0.0.1:{ports['RANKING_PORT']}") as to_ranking,
    ):
        stubs = IngestServiceStub(to_ingest), RankingServiceStub(to_ranking)
        seconds_s = sorted(canary(*stubs) for _ in range(CANARY_COUNT))
    report(FRESHNESS_REPORT, seconds_s)


def report(path: Path, seconds_s: list[float]) -> None:
    """Writes the figures, and prints them into the test run's output."""
    at = {
        name: seconds_s[int(share * (len(seconds_s) - 1))]
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    figures = {
        "canary_count": len(seconds_s),
        **{f"freshness_ms_{k}": round(v * 1000, 2) for k, v in at.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))
