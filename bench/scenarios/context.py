"""What a scenario works with: the system, how long to measure, and which core does what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.system import System

LOAD_WAIT_S_MAX = 300.0  # of one run of the generator: its own seconds, and a start


@dataclass(frozen=True)
class Timing:
    """How long is measured."""

    seconds: float  # of one run under load
    warm_up_s: float
    calls: int  # counted, of a run of one caller


FULL = Timing(20.0, 3.0, 5_000)
QUICK = Timing(4.0, 1.0, 1_000)


@dataclass(frozen=True)
class Found:
    """Figures by their names in bench/targets.py, and what they were made from."""

    metrics: Mapping[str, float | None]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Context:
    """Serving has `serving_core` to itself; the callers, Valkey and the gateway have `load_core`."""

    system: System
    timing: Timing
    serving_core: int
    load_core: int
    saturation_per_s: float = 0.0  # known once throughput has been measured

    def load(self, kind: str, *targets: str, core: int | None = None, **options: Any) -> dict[str, Any]:
        """One run of bench.load in a process of its own. Raises RuntimeError with what it said."""
        process = self.start_load(kind, *targets, core=core, **options)
        return finish(process)

    def start_load(
        self, kind: str, *targets: str, core: int | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """The same, without waiting for its end; `finish` does."""
        given = {
            "core": self.load_core if core is None else core,
            "users": self.system.options.users,
            "seconds": self.timing.seconds,
            "warm-up-s": self.timing.warm_up_s,
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        command = [
            sys.executable,
            "-m",
            "bench.load",
            kind,
            *(part for url in targets for part in ("--target", url)),
        ]
        command += [part for name, value in given.items() for part in (f"--{name}", str(value))]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The answer of a run of bench.load. Raises RuntimeError with what it said."""
    try:
        output, errors = process.communicate(timeout=LOAD_WAIT_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"the load did not end within {LOAD_WAIT_S_MAX:.0f} s") from None
    if process.returncode != 0:
        raise RuntimeError((errors.strip().splitlines() or ["the load ended without a word"])[-1])
    found: dict[str, Any] = json.loads(output)
    return found


def cores() -> tuple[int, int]:
    """Two cores, for serving and for the load; the same one twice where there is one."""
    found = sorted(os.sched_getaffinity(0))
    return found[0], found[-1]
