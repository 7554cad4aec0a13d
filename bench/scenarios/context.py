"""What a scenario works with: the system, how long to measure, and which core does what."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import shares
from bench.system import System

# Valkey and the generator share a core: an answer of Valkey's must not wait for the generator's next call.
LOAD_NICE = 5
LOAD_WAIT_S_MAX = 300.0  # of one run of the generator: its own seconds, and a start


@dataclass(frozen=True)
class Timing:
    """How long is measured."""

    seconds: float  # of one run under load
    warm_up_s: float
    calls: int  # counted, of a run of one caller
    rounds: int  # of everything else: the median counts
    caller_rounds: int  # of a run of one caller


FULL = Timing(20.0, 3.0, 1_500, 3, 5)
QUICK = Timing(4.0, 1.0, 300, 1, 3)
TINY = Timing(1.0, 0.3, 50, 1, 1)  # for tests: that it works, not what it finds


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
    watched: dict[str, list[int]] = field(
        default_factory=dict
    )  # processes of ours by name, to tell others' work

    def load(self, kind: str, *targets: str, core: int | None = None, **options: Any) -> dict[str, Any]:
        """One run of bench.load in a process of its own. Raises RuntimeError with what it said."""
        first, used_s = shares.snapshot(self._ours()), _children_s()
        found = finish(self.start_load(kind, *targets, core=core, **options))
        used = {"load": _children_s() - used_s}
        return found | {"machine": shares.between(first, shares.snapshot(self._ours()), used)}

    def _ours(self) -> dict[str, list[int]]:
        stores = {"valkey": self.system.valkey_pids, "postgres": self.system.postgres_pids}
        return {"bench": [os.getpid()], **stores, **self.watched}

    def start_load(
        self, kind: str, *targets: str, core: int | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """The same, without waiting for its end; `finish` does."""
        given = {
            "core": self.load_core if core is None else core,
            "nice": LOAD_NICE,
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


def output_of(command: Sequence[str], wait_s: float) -> str:
    """What `python -m COMMAND` prints. Raises RuntimeError with the last thing that it said."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", *command], capture_output=True, text=True, timeout=wait_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} did not end within {wait_s:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"{command[0]} ended without a word"])[-1])
    return done.stdout


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cores() -> tuple[int, int]:
    """Two cores, for serving and for the load; the same one twice where there is one."""
    found = sorted(os.sched_getaffinity(0))
    return found[0], found[-1]
