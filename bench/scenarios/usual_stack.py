"""Our answers beside those of the stack that is usually written (bench/peers/usual_stack.py), at the same rate in the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bench.data
from bench.processes import answers, free_port, started
from bench.scenarios.context import Context, Found, output_of
from bench.scenarios.rounds import median, middle
from bench.scenarios.speed import at_rate, slim

MODULE = "bench.peers.usual_stack"
PATH = "/v1/users/user-0000000/recommendations"
SMALL_ITEMS, SMALL_WAIT_S_MAX = 100_000, 60.0
READY_WAIT_S_MAX = 1_200.0  # the first start builds a graph over all items, which is then kept
LOAD_WAIT_S_MAX = 300.0


def compared(context: Context) -> Found:
    """p99 of the usual stack over ours, both at half of what the usual stack can do, in turn, on the same core.

    The one that is not asked stays up and idle.
    """
    redis = context.system.settings.redis_url
    dataset = str(bench.data.make(context.system.options))
    output_of([MODULE, "load", "--dataset", dataset, "--redis", redis], LOAD_WAIT_S_MAX)
    port, folder = free_port(), context.system.log_folder("usual-stack")
    command = [MODULE, "serve", "--dataset", dataset, "--redis", redis, "--port", str(port)]
    command += ["--core", str(context.serving_core)]
    wait_s = SMALL_WAIT_S_MAX if context.system.options.items <= SMALL_ITEMS else READY_WAIT_S_MAX
    with (
        started(command, folder, port, {}, None, answers(PATH), wait_s) as theirs,
        context.system.serving({context.serving_core}) as ours,
    ):
        context.watched |= {"usual": theirs.pids, "server": ours.pids}
        found = _in_turn(context, f"http://{theirs.address}", f"grpc://{ours.address}")
    del context.watched["usual"]
    return Found(found.metrics, {"says": _said(folder.with_suffix(".log")), **found.details})


def _in_turn(context: Context, theirs_url: str, ours_url: str) -> Found:
    saturation = context.load("saturation", theirs_url, seconds=max(1.0, context.timing.seconds / 4))
    rate = saturation["max_per_s"] / 2
    rounds = [
        (at_rate(context, theirs_url, rate), at_rate(context, ours_url, rate))
        for _ in range(context.timing.rounds)
    ]
    theirs, ours = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
    metrics = {
        "usual_stack_p99_over_ours": median(_p99(a) / _p99(b) for a, b in rounds),
        "usual_stack_calls_s": saturation["max_per_s"],
        "usual_stack_ms_p99": median(_p99(run) for run in theirs),
    }
    details = {"rate_per_s": rate, "theirs": middle(theirs, _p99), "ours": middle(ours, _p99)}
    return Found(metrics, {"saturation": slim(saturation), **details})


def _p99(run: Any) -> float:
    return float(run["latency_ms"]["p99"])


def _said(log: Path) -> Any:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}
