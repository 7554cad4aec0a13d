"""Everything at once, for long: load at half of saturation, items that come and go, models swapped, and Redis at a stand now and then.

make soak                                          # thirty minutes over 100,000 items
python -m bench.soak --seconds 120 --items 2000

Looks at what a long run shows and a short one does not: calls that fail, memory that grows, descriptors and threads that stay.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.options import CACHE, Options, add_arguments, given
from bench.processes import NotReadyError, Server, roughly_resident_bytes
from bench.scenarios.catalogue import TAG, Shop, shop_of
from bench.scenarios.context import Context, Timing, cores
from bench.scenarios.speed import LOAD_SHARE, slim
from bench.scenarios.swap import swap_to, two_versions
from bench.soaked import Sample, Soaked
from bench.system import running
from runtime.errors import RecoError

SECONDS = 1_800.0
SWAP_PERIOD_S, PAUSE_PERIOD_S, CHANGE_PERIOD_S = 180.0, 45.0, 0.5
PAUSE_MS = 400  # Redis takes no command for so long
CHANGE_COUNT = 50  # items that come and go in one change
SAMPLE_PERIOD_S = 1.0
SATURATION_S = 5.0
LOAD_S_MAX = 120.0  # of one run of the load; the next begins when it is over
SATURATION_CALLERS = 8
CALL_WAIT_S_MAX = 30.0


@dataclass(frozen=True)
class Pace:
    """How often what happens."""

    seconds: float = SECONDS
    swap_period_s: float = SWAP_PERIOD_S
    pause_period_s: float = PAUSE_PERIOD_S
    load_share: float = LOAD_SHARE  # of saturation


class Doer(threading.Thread):
    """Does something again and again until it is told to stop; an error ends it and is kept."""

    def __init__(self, what: Callable[[int], None], period_s: float) -> None:
        super().__init__(daemon=True)
        self._what, self._period_s = what, period_s
        self._ended = threading.Event()
        self.count = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._ended.wait(self._period_s):
                self._what(self.count)
                self.count += 1
        except Exception as error:
            self.error = error

    def end(self) -> None:
        """Stops it, after what it is doing."""
        self._ended.set()
        self.join(2 * CALL_WAIT_S_MAX)


def soak(options: Options, pace: Pace, cache: Path = CACHE) -> Soaked:
    """One run, of a serving process of its own core over a data set of its own stores."""
    serving_core, load_core = cores()
    with running(options, cache) as system, ExitStack() as stack:
        context = Context(system, Timing(SATURATION_S, 2.0, 0, 1, 1), serving_core, load_core)
        system.pin_valkey({load_core})
        server = stack.enter_context(system.serving({serving_core}))
        ingest = stack.enter_context(system.ingest({load_core}))
        shop = stack.enter_context(shop_of(ingest, [server]))
        target = f"grpc://{server.address}"
        context.watched |= {"server": server.pids, "ingest": ingest.pids}
        rate = pace.load_share * context.load("closed", target, callers=SATURATION_CALLERS)["achieved_per_s"]
        return _soaked(context, server, shop, pace, rate)


def _soaked(context: Context, server: Server, shop: Shop, pace: Pace, rate: float) -> Soaked:
    start_s = time.monotonic()
    samples: list[Sample] = []
    settled_s: list[float] = []

    def swap(count: int) -> None:
        swap_to(server, versions[(count + 1) % 2], pace.swap_period_s)
        settled_s.append(time.monotonic() - start_s)

    versions = two_versions(context)
    swaps = Doer(swap, pace.swap_period_s)
    pauses = Doer(lambda _: context.system.pause_redis(PAUSE_MS), pace.pause_period_s)
    changes = Doer(lambda count: _change(shop, count), CHANGE_PERIOD_S)
    looks = Doer(lambda _: samples.append(_sample(server, start_s)), SAMPLE_PERIOD_S)
    doers = (swaps, pauses, changes, looks)
    for doer in doers:
        doer.start()
    runs: list[dict[str, Any]] = []
    while (left_s := start_s + pace.seconds - time.monotonic()) > 0:
        seconds = max(1.0, min(LOAD_S_MAX, left_s))
        options: dict[str, Any] = {"rate": round(rate, 1), "seconds": round(seconds, 1)}
        runs.append(slim(context.load("open", f"grpc://{server.address}", **options)))
    for doer in doers:
        doer.end()
    if swaps.count % 2:  # the first one answers again in the next run
        swap_to(server, versions[0], pace.swap_period_s)
    return Soaked(
        seconds=pace.seconds,
        rate_per_s=rate,
        runs=[{name: run[name] for name in ("statuses", "latency_ms", "machine")} for run in runs],
        change_count=changes.count * CHANGE_COUNT,
        swap_count=swaps.count,
        pause_count=pauses.count,
        errors=[f"{type(doer.error).__name__}: {doer.error}" for doer in doers if doer.error is not None],
        samples=samples,
        settled_s=settled_s[0] if settled_s else 0.0,
    )


def _change(shop: Shop, count: int) -> None:
    item_ids = [f"{TAG}-{count % 10 * CHANGE_COUNT + number}" for number in range(CHANGE_COUNT)]
    shop.upsert(item_ids)
    shop.delete(item_ids)


def _sample(server: Server, start_s: float) -> Sample:
    descriptors = threads = 0
    for pid in server.pids:
        with suppress(FileNotFoundError):
            descriptors += _count(Path(f"/proc/{pid}/fd"))
            threads += _count(Path(f"/proc/{pid}/task"))
    return Sample(time.monotonic() - start_s, roughly_resident_bytes(server.pids), descriptors, threads)


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    add = parser.add_argument
    add("--seconds", type=float, default=SECONDS, help="of load (default: %(default)g)")
    add("--swap-period-s", type=float, default=SWAP_PERIOD_S, help="(default: %(default)g)")
    add("--pause-period-s", type=float, default=PAUSE_PERIOD_S, help="(default: %(default)g)")
    add("--out", type=Path, help="a file for all that was found, as JSON")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        options, arguments = given(parser)
        found = soak(options, Pace(arguments.seconds, arguments.swap_period_s, arguments.pause_period_s))
    except (ValueError, RecoError, NotReadyError, RuntimeError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    plain = found.to_json()
    if arguments.out:
        arguments.out.write_text(json.dumps(plain, indent=1))
    for name, value in plain.items():
        if name not in ("runs", "samples", "errors"):
            print(f"{name:<20} {value}")
    print(f"{'others_share':<20} {found.others_share:.3f}")
    for fault in found.faults():
        print(f"FAULT: {fault}")
    return 1 if found.faults() else 0


if __name__ == "__main__":
    raise SystemExit(main())
