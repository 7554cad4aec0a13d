"""A result's schema, the table beside the targets, and the report's pictures."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError, validate

from bench import results, targets
from bench.options import Options

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GOOD = {target.name: target.aim for target in targets.TARGETS}


def _result(metrics: dict[str, float | None], details: dict[str, Any] | None = None) -> dict[str, Any]:
    return results.result(Options(), True, False, START, metrics, details or {}, {}, ["beware"], 12.3)


def test_result_when_made_keeps_the_schema_and_the_order_of_the_targets() -> None:
    found = _result({"user_bytes": 672})
    validate(json.loads(json.dumps(found)), results.SCHEMA)
    assert list(found["metrics"]) == list(targets.NAMES)
    assert found["metrics"]["user_bytes"] == 672
    assert found["metrics"]["ready_s"] is None


def test_result_when_written_twice_is_one_file_and_the_latest(tmp_path: Path) -> None:
    path = results.write(_result(dict(GOOD)), tmp_path)
    assert results.write(_result(dict(GOOD)), tmp_path) == path
    assert path.name.startswith("2026-11-23-")
    assert results.latest(tmp_path) == path
    assert results.latest(tmp_path / "none") is None


def test_stored_results_when_there_are_any_keep_the_schema() -> None:
    for path in [*results.FOLDER.glob("*.json"), *(results.FOLDER / "ingest").glob("*.json")]:
        validate(json.loads(path.read_text()), results.SCHEMA)


def test_result_of_this_version_that_lacks_a_figure_is_refused_and_an_earlier_one_is_not() -> None:
    found = _result(dict(GOOD), {})
    del found["metrics"][targets.NAMES[0]]
    with pytest.raises(ValidationError, match=targets.NAMES[0]):
        validate(found, results.SCHEMA)
    validate({**found, "schema_version": 1}, results.SCHEMA)


@pytest.mark.parametrize("target", targets.TARGETS, ids=lambda target: target.name)
def test_target_when_its_aim_is_reached_so_is_what_it_has_to_be(target: targets.Target) -> None:
    assert target.reaches(target.aim, target.least)
    worse = target.least * 0.5 if target.larger_is_better else 2 * target.least or 1
    assert not target.reaches(worse, target.least)


def test_missed_when_a_figure_is_bad_or_absent_names_it() -> None:
    assert targets.missed(GOOD) == []
    assert targets.missed({**GOOD, "ready_s": 31.0, "item_bytes": None}) == ["item_bytes", "ready_s"]
    assert "MISSED" in targets.table({**GOOD, "ready_s": 31.0})


def test_report_when_a_result_is_drawn_has_pictures_and_a_page_that_needs_nothing_else() -> None:
    report = pytest.importorskip("bench.report", reason="matplotlib is of the bench's extra")
    run = {"offered_per_s": 100.0, "latency_ms": {"p50": 1.0, "p99": 2.0},
           "stages_ms": {"total": {"p50": 0.5, "p99": 0.9}, "profile": {"p50": 0.1, "p99": 0.3}}}  # fmt: skip
    sweep = {"ours": [{"recall": 0.98, "us": 80.0}], "hnswlib": {"l2": [{"recall": 0.6, "us": 300.0}]}}
    found = _result(dict(GOOD), {"latency": run, "latency over rate": {"runs": [run]}, "recall sweep": sweep})
    pictures = report.draw(found)
    assert set(pictures) == {"latency_over_rate", "recall_over_latency", "cost_by_stage"}
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())
    page = report.page(found, pictures)
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png") == 3


def test_report_when_scenarios_were_skipped_leaves_their_pictures_out() -> None:
    report = pytest.importorskip("bench.report", reason="matplotlib is of the bench's extra")
    assert report.draw(_result({})) == {}
