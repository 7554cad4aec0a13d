"""The whole bench at its smallest: every figure is there. What the figures are is not looked at."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import validate

from bench import results, run, shares, targets
from bench.options import Options
from bench.scenarios.context import TINY

TINY_OPTIONS = Options(1_000, 16, 200)
NEED_PEERS = {
    "usual_stack_p99_over_ours", "usual_stack_calls_s", "usual_stack_ms_p99", "h2load_calls_s", "item_bytes", "two_cores_over_one",
}  # fmt: skip


def test_bench_when_run_at_its_smallest_has_every_figure(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f".{os.pathsep}gen")
    has_peers = all(importlib.util.find_spec(name) for name in ("hnswlib", "fastapi"))
    found = run.measure(TINY_OPTIONS, TINY, cache=open_folder)
    result = results.result(
        TINY_OPTIONS, True, False, datetime.now(UTC), found.metrics, found.details, found.skipped, found.warnings(), 1.0
    )  # fmt: skip
    validate(json.loads(json.dumps(result)), results.SCHEMA)
    without = {name for name, value in result["metrics"].items() if value is None or not math.isfinite(value)}
    assert without <= NEED_PEERS, (without, found.skipped)
    assert set(found.skipped) <= {"h2load", "usual stack", "recall sweep"}, found.skipped
    if has_peers:
        assert not {"usual stack", "recall sweep"} & set(found.skipped), found.skipped


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--norms", "odd"], "heavy"),
        (["--items", "10"], "items is 10, it has to be 1000 to 10000000"),
        (["--users", "1"], "users at least 100"),
    ],
)
def test_bench_when_an_option_is_wrong_says_what_is_right(arguments: list[str], says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.run", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_shares_when_a_process_works_are_told_as_its_own() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        first = shares.snapshot({"busy": [busy.pid]})
        while (last := shares.snapshot({"busy": [busy.pid]})).used_s["busy"] <= first.used_s["busy"]:
            pass
    finally:
        busy.send_signal(signal.SIGKILL)
        busy.wait()
    told = shares.between(first, last, {"ended": 0.0})
    used, others = told["used"], told["others"]
    assert isinstance(used, dict)
    assert used["busy"] > 0
    assert used["ended"] == 0
    assert isinstance(others, float)
    assert others >= 0
    assert shares.snapshot({"gone": [busy.pid]}).used_s["gone"] == 0


def test_all_when_values_lie_at_any_depth_finds_each() -> None:
    details = {
        "a": {"machine": {"others": 0.1}},
        "b": [{"machine": {"others": 0.2}}, {"rounds": [{"others": 0.3}]}],
    }
    assert sorted(run._all("others", details)) == [0.1, 0.2, 0.3]


def test_warnings_when_others_took_the_machine_say_so() -> None:
    found = run.Run()
    found.details["latency"] = {"rounds": [{"warnings": ["late"]}, {"warnings": ["late"]}]}
    found.metrics["others_share"] = 0.5
    assert found.warnings()[0] == "latency: late"
    assert "50%" in found.warnings()[1]
    assert len(found.warnings()) == 2


def test_names_when_listed_have_no_figure_twice() -> None:
    assert len(set(targets.NAMES)) == len(targets.NAMES)
