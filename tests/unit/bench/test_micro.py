"""The benchmarks of the stages, run once each over a small catalogue."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RUN_S_MAX = 300  # it compiles every kernel when nothing is cached


def test_stages_when_each_is_run_once_all_give_what_they_should(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "bench/micro",
        "-q",
        "--benchmark-disable",
        "-p",
        "no:cacheprovider",
    ]
    small = {"BENCH_ITEMS": "1500", "BENCH_USERS": "200", "BENCH_CACHE": str(tmp_path)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **small},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
