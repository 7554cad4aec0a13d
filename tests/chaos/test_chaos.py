"""A minute of faults of every kind under load; and builds that are wrong, which a run has to find."""

from __future__ import annotations

import json
import os

import pytest

from bench.chaos.run import Options, chaos
from tests.chaos.conftest import REPORT

pytestmark = pytest.mark.e2e

SEED = 7
SHORT = Options(seed=SEED, seconds=60.0, fault_count=26, rate=1_000.0)
# Enough of every kind to lose something where it can be lost.
BROKEN = Options(seed=SEED, seconds=20.0, fault_count=18, rate=1_000.0, looks_for_leaks=False)


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f".{os.pathsep}gen")


def test_chaos_when_everything_dies_under_load_loses_and_doubles_nothing() -> None:
    REPORT.unlink(missing_ok=True)
    report = chaos(SHORT)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report.to_json(), indent=1))
    assert [note for note in report.notes if not note.startswith("no disk was filled")] == [], report.lines()
    assert (report.lost, report.doubled, report.profiles_wrong) == (0, 0, 0)
    assert report.acknowledged == report.sent > 0
    assert report.fault_count >= SHORT.fault_count * 3 // 4  # others found nobody to hurt
    assert report.profiles > 2_000


@pytest.mark.parametrize("build", ["acknowledge-before-write", "answer-before-append"])
def test_chaos_when_a_build_acknowledges_too_early_finds_what_it_lost(build: str) -> None:
    report = chaos(Options(**{**BROKEN.__dict__, "broken": build}))
    assert report.lost > 0, report.lines()
    assert any("acknowledged events" in note for note in report.notes)
