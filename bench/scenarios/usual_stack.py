"""Our answers beside those of the stack that is usually written (bench/peers/usual_stack.py), at the same rate in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench.data
from bench.processes import answers, free_port, started
from bench.scenarios.context import Context, Found
from bench.scenarios.speed import at_rate, slim

MODULE = "bench.peers.usual_stack"
PATH = "/v1/users/user-0000000/recommendations"
READY_WAIT_S_MAX, SMALL_WAIT_S_MAX, SMALL_ITEMS = (
    1_200.0,
    60.0,
    100_000,
)  # the first start builds a graph over all items
LOAD_WAIT_S_MAX = 300.0


def compared(context: Context) -> Found:
    """p99 of the usual stack over ours, both at half of what the usual stack can do, each alone on the serving core."""
    redis = context.system.settings.redis_url
    dataset = str(bench.data.make(context.system.options))
    command = [MODULE, "load", "--dataset", dataset, "--redis", redis]
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=LOAD_WAIT_S_MAX, capture_output=True)  # noqa: S603
    port, folder = free_port(), context.system.log_folder("usual-stack")
    command = [MODULE, "serve", "--dataset", dataset, "--redis", redis, "--port", str(port)]
    command += ["--core", str(context.serving_core)]
    wait_s = SMALL_WAIT_S_MAX if context.system.options.items <= SMALL_ITEMS else READY_WAIT_S_MAX
    with started(command, folder, port, {}, None, answers(PATH), wait_s) as server:
        said = _said(folder.with_suffix(".log"))
        url = f"http://{server.address}"
        saturation = context.load("saturation", url, seconds=max(2.0, context.timing.seconds / 4))
        rate = saturation["max_per_s"] / 2
        theirs = at_rate(context, url, rate)
    with context.system.serving({context.serving_core}) as server:
        ours = at_rate(context, f"grpc://{server.address}", rate)
    ratio = theirs["latency_ms"]["p99"] / ours["latency_ms"]["p99"]
    details = {
        "says": said,
        "saturation": slim(saturation),
        "rate_per_s": rate,
        "theirs": theirs,
        "ours": ours,
    }
    return Found({"usual_stack_p99_over_ours": ratio}, details)


def _said(log: Path) -> Any:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}
