"""`reco profile`: quantiles and differences from Prometheus' text."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest, start_http_server

from cli.profile import Counts, parse, read_all, summary
from runtime.errors import StateError

STAGE = ("reco_stage_seconds", "score")


def registry_with(*seconds: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    stages = Histogram("reco_stage_seconds", "x", ["stage"], buckets=(0.1, 0.2, 0.4), registry=registry)
    calls = Histogram("reco_rpc_seconds", "x", ["method", "code"], buckets=(1, 2), registry=registry)
    Histogram("reco_other_seconds", "x", registry=registry).observe(1)
    for value in seconds:
        stages.labels("score").observe(value)
        calls.labels("Recommend", "OK").observe(value)
        calls.labels("Recommend", "INTERNAL").observe(value)
    return registry


def text_of(*seconds: float) -> str:
    return generate_latest(registry_with(*seconds)).decode()


def test_parse_when_calls_ended_in_several_codes_adds_them_up() -> None:
    found = parse(text_of(0.05, 0.3))
    assert found[STAGE].count == 2
    assert found[STAGE].sum_s == pytest.approx(0.35)
    assert found["reco_rpc_seconds", "Recommend"].count == 4
    assert set(found) == {STAGE, ("reco_rpc_seconds", "Recommend")}


def test_quantile_interpolates_within_its_bucket() -> None:
    counts = Counts({0.1: 0, 0.2: 10, 0.4: 10, math.inf: 20}, 3.0)
    assert counts.quantile_s(0.25) == pytest.approx(0.15)
    assert counts.quantile_s(0.5) == pytest.approx(0.2)
    assert counts.quantile_s(0.99) == 0.4  # the open bucket says no more than its lower bound


def test_summary_when_there_was_something_before_counts_what_came_since() -> None:
    rows = summary(parse(text_of(0.3)), parse(text_of(0.3, 0.15, 0.15)), interval_s=2.0)
    stage = next(row for row in rows if row["kind"] == "stage")
    assert stage["per_s"] == 1.0
    assert stage["mean_us"] == pytest.approx(150_000)
    assert stage["p50_us"] == pytest.approx(150_000)
    assert stage["share"] == 1.0


def test_summary_when_the_process_has_started_anew_counts_from_nothing() -> None:
    rows = summary(parse(text_of(0.3, 0.3, 0.3)), parse(text_of(0.15)), interval_s=1.0)
    assert [row["per_s"] for row in rows if row["kind"] == "stage"] == [1.0]


def test_summary_when_nothing_happened_is_empty() -> None:
    state = parse(text_of(0.3))
    assert summary(state, state, 1.0) == []


def test_read_all_when_there_are_several_processes_adds_them_up() -> None:
    servers = [start_http_server(0, "127.0.0.1", registry_with(0.3)) for _ in range(2)]
    try:
        urls = [f"http://127.0.0.1:{server.server_port}/metrics" for server, _ in servers]
        assert read_all(urls)[STAGE].count == 2
    finally:
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join()


def test_read_all_when_nobody_answers_says_what_to_do() -> None:
    with pytest.raises(StateError, match="reco up"):
        read_all(["http://127.0.0.1:1/metrics"])
