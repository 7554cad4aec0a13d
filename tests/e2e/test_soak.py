"""The soak's short form: two minutes of everything at once, and what is told where something grows or fails."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.load.answer import OK, TIMED_OUT
from bench.options import Options
from bench.soak import Pace, soak
from bench.soaked import Sample, Soaked

# Less than half of saturation: tests run where others work, too, and then a call that is refused is no fault.
SHORT = Pace(seconds=120.0, swap_period_s=20.0, pause_period_s=10.0, load_share=0.15)
MIB = 1024 * 1024


def test_soak_when_everything_happens_at_once_fails_no_call_and_keeps_nothing(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f".{os.pathsep}gen")
    found = soak(Options(2_000, 16, 300), SHORT, open_folder)
    assert found.faults() == []
    assert found.statuses[OK] > 1_000
    assert found.swap_count >= 3
    assert found.pause_count >= 5
    assert found.change_count >= 1_000


def flat(count: int = 40) -> Soaked:
    """A run in which nothing grew."""
    samples = [Sample(float(i), 100 * MIB + i % 3, 20 + i % 2, 8) for i in range(count)]
    return Soaked(float(count), 100.0, [run({OK: 2_000}), run({OK: 2_000})], 100, 2, 3, [], samples, 10.0)


def run(statuses: dict[str, int]) -> dict[str, Any]:
    return {"statuses": statuses, "latency_ms": {"p99": 1.0}, "machine": {"others": 0.01}}


def test_faults_when_nothing_grew_are_none() -> None:
    assert flat().faults() == []


def test_faults_when_memory_grows_before_the_first_swap_only_are_none() -> None:
    soaked = flat()
    early = [replace(sample, resident_bytes=50 * MIB) for sample in soaked.samples[:10]]
    assert replace(soaked, samples=early + soaked.samples[10:]).faults() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda sample: replace(sample, resident_bytes=int(sample.resident_bytes * (1 + sample.time_s / 400))), "memory grew"),
        (lambda sample: replace(sample, descriptors=sample.descriptors + int(sample.time_s)), "descriptors"),
        (lambda sample: replace(sample, threads=sample.threads + int(sample.time_s // 10)), "threads"),
    ],
)  # fmt: skip
def test_faults_when_something_grows_name_it(change: object, says: str) -> None:
    soaked = flat()
    grown = replace(soaked, samples=[change(sample) for sample in soaked.samples])  # type: ignore[operator]
    assert says in " ".join(grown.faults())


def test_faults_when_calls_or_changes_failed_tell_them() -> None:
    faults = replace(
        flat(), runs=[run({OK: 10}), run({OK: 3, TIMED_OUT: 2})], errors=["RuntimeError: no swap"]
    ).faults()
    assert faults[0] == "RuntimeError: no swap"
    assert faults[1].startswith("2 calls failed")
