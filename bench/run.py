"""The bench: every scenario in one run, a table beside what is to be reached, and a file in bench/results.

make bench                                          # a million items, some twenty minutes
make bench FIRST=1                                  # before all other work on this machine; needs root
make bench ITEMS=200000 NORMS=equal SEED=11
make bench-quick                                    # under three minutes: for a look, not for a claim
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import priority, results, shares, targets
from bench.options import CACHE, QUICK_ITEMS, Options, add_arguments, from_arguments, quick
from bench.processes import NotReadyError, resident_bytes
from bench.scenarios import (
    catalogue,
    deadlines,
    filters,
    ingest,
    memory,
    overload,
    paging,
    recall,
    speed,
    swap,
    usual_stack,
)
from bench.scenarios.context import FULL, QUICK, Context, Found, Timing, cores
from bench.system import System, running
from runtime.errors import RecoError


class Run:
    """What has been found so far."""

    def __init__(self) -> None:
        self.metrics: dict[str, float | None] = {}
        self.details: dict[str, Any] = {}
        self.skipped: dict[str, str] = {}

    def take(self, name: str, scenario: Callable[[], Found]) -> None:
        """One scenario. One that fails is told and leaves the others their turn."""
        start_s = time.monotonic()
        try:
            found = scenario()
        except Exception as error:
            self.skipped[name] = f"{type(error).__name__}: {error}"
            print(f"bench: {name} has no figures: {self.skipped[name]}", file=sys.stderr, flush=True)
            return
        self.metrics |= found.metrics
        self.details[name] = dict(found.details)
        figures = ", ".join(f"{key} {value:.4g}" for key, value in found.metrics.items() if value is not None)
        print(f"bench: {name}: {figures} ({time.monotonic() - start_s:.0f} s)", file=sys.stderr, flush=True)

    def others(self) -> Found:
        """The most that processes of others took during a run."""
        return Found({"others_share": max(_all("others", self.details), default=None)})

    def warnings(self) -> list[str]:
        """What the runs warn of, and whether the machine was ours."""
        found = [f"{name}: {text}" for name, part in self.details.items() for text in _texts(part)]
        share = self.metrics.get("others_share") or 0.0
        if share > shares.OTHERS_WARN:
            found.append(
                f"other processes took up to {share:.0%} of the machine: these figures are theirs, too"
            )
        return list(dict.fromkeys(found))


def _all(name: str, part: Any) -> list[Any]:
    """Every value of this name, at any depth."""
    if isinstance(part, Mapping):
        below = [value for key, each in part.items() if key != name for value in _all(name, each)]
        return below + ([part[name]] if name in part else [])
    return [value for each in part for value in _all(name, each)] if isinstance(part, list) else []


def _texts(part: Any) -> list[str]:
    return [text for texts in _all("warnings", part) for text in texts]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ITEMS:,} items and short runs")
    parser.add_argument(
        "--first",
        action="store_true",
        help="every process of the bench goes before other work on the machine (real-time priority, needs root)",
    )
    parser.add_argument("--check", action="store_true", help="exit 1 when an 'at least' is missed")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the result (default: bench/results; of a quick one .cache/bench-results)",
    )
    arguments = parser.parse_args()
    try:
        found = _measured(arguments)
    except (ValueError, RecoError, NotReadyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped, nothing is written", file=sys.stderr)
        return 130
    folder = results.QUICK_FOLDER if arguments.quick else results.FOLDER
    print(targets.table(found["metrics"]))
    for text in found["warnings"]:
        print(f"beware: {text}")
    print(f"written to {results.write(found, arguments.out or folder)}")
    return 1 if arguments.check and targets.missed(found["metrics"]) else 0


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    options = from_arguments(arguments)
    if arguments.quick:
        options = quick(options)
    # Children start as many threads as libraries like; one core has no use for them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start, start_s = datetime.now(UTC), time.monotonic()
    run = measure(options, QUICK if arguments.quick else FULL, arguments.first)
    took_s = time.monotonic() - start_s
    return results.result(
        options,
        arguments.quick,
        arguments.first,
        start,
        run.metrics,
        run.details,
        run.skipped,
        run.warnings(),
        took_s,
    )


def measure(options: Options, timing: Timing, is_first: bool = False, cache: Path = CACHE) -> Run:
    """All scenarios over one data set."""
    run = Run()
    serving_core, load_core = cores()
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(running(options, cache))
        if is_first:
            stack.enter_context(priority.first(system.valkey_pids))
        context = Context(system, timing, serving_core, load_core)
        system.pin_valkey({load_core})
        run.take("users", lambda: memory.users(context))
        run.take("recall", lambda: recall.recall(context))
        run.take("first start", lambda: _first_start(system, serving_core))
        server_bytes = _with_server(run, context)
        run.take("usual stack", lambda: usual_stack.compared(context))
        run.take("recall sweep", lambda: recall.sweep(context, with_hnswlib=True))
    # With stores of its own: those of the data set are as they have to be for the next run.
    size = (
        ingest.FULL
        if timing.seconds >= FULL.seconds
        else ingest.QUICK
        if timing.seconds >= QUICK.seconds
        else ingest.TINY
    )
    run.take("ingest", lambda: ingest.ingest(serving_core, load_core, size))
    run.take("others", run.others)
    run.take("items", lambda: memory.items(context, server_bytes, cache))
    return run


def _with_server(run: Run, context: Context) -> int:
    """What needs a serving process of its own core; returns how much memory it took when it was ready."""
    with context.system.serving({context.serving_core}) as server:
        context.watched["server"] = server.pids
        run.take("ready", lambda: Found({"ready_s": server.ready_s}))
        server_bytes = resident_bytes(server.pids)
        run.take("throughput", lambda: speed.throughput(context, server))
        run.take("latency", lambda: speed.latency(context, server))
        run.take("latency over rate", lambda: speed.over_rate(context, server))
        run.take("h2load", lambda: speed.second_opinion(context, server))
        run.take("one caller", lambda: speed.one_caller(context, server))
        run.take("rank", lambda: speed.rank(context, server))
        run.take("rest", lambda: speed.rest(context, server))
        run.take("filters", lambda: filters.filters(context, server))
        run.take("catalogue", lambda: catalogue.catalogue(context, server))
        run.take("swap", lambda: swap.swap(context, server))
        run.take("deadlines", lambda: deadlines.deadlines(context, server))
        run.take("overload", lambda: overload.overload(context, server))
        run.take("two cores", lambda: speed.two_cores(context, server))
    run.take("paging", lambda: paging.paging(context))
    run.take("second process", lambda: memory.second_process(context))
    return server_bytes


def _first_start(system: System, core: int) -> Found:
    """A start without the catalogue's file and, maybe, without compiled kernels: it leaves both behind."""
    with system.serving({core}) as server:
        return Found({}, {"ready_s": server.ready_s, "snapshot_written": system.wait_for_snapshot()})


if __name__ == "__main__":
    raise SystemExit(main())
