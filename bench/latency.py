"""How long one answer takes, against a system that runs (`reco up`): one caller, one call after the other.

A closed loop of one caller shows the cost of a call, not how the system behaves under load. Beside Recommend stand the same
server's empty call (gRPC health), RankItems and the same answer over REST, so that the ratios hold on any machine.

    make latency                          # or: .venv/bin/python bench/latency.py --calls 5000 --json
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reco.ranking.v1 import ranking_service_pb2 as ranking
from reco.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from runtime.settings import load_settings

WARM_UP_COUNT = 200
USER_COUNT = 900  # of MovieLens' 943, in turn, so that no answer is asked for twice in a row
RANKED = [str(item) for item in range(1, 101)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2_000, help="counted calls of each kind")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    result = {"machine": machine(), "calls": options.calls, "ms": measure(options.calls)}
    print(json.dumps(result) if options.json else table(result))


def measure(count: int) -> dict[str, dict[str, float]]:
    """Milliseconds at p50, p90 and p99, by kind of call."""
    settings = load_settings()
    rest = http.client.HTTPConnection(settings.host, settings.gateway_port)  # the lightest client there is
    with grpc.insecure_channel(f"{settings.host}:{settings.ranking_port}") as channel:
        stub, health = RankingServiceStub(channel), health_pb2_grpc.HealthStub(channel)  # type: ignore[arg-type]  # the stubs know aio's channels only
        empty = health_pb2.HealthCheckRequest()
        kinds: dict[str, Callable[[str], Any]] = {
            "empty call": lambda _: health.Check(empty),
            "Recommend": lambda user: stub.Recommend(ranking.RecommendRequest(user_id=user)),
            "RankItems, 100": lambda user: stub.RankItems(
                ranking.RankItemsRequest(user_id=user, item_ids=RANKED)
            ),
            "Recommend over REST": lambda user: read(rest, f"/v1/users/{user}/recommendations"),
        }
        return {name: quantiles(timed(call, count)) for name, call in kinds.items()}


def read(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def timed(call: Callable[[str], Any], count: int) -> list[float]:
    """Seconds of each counted call, ascending."""
    seconds = []
    for number in range(WARM_UP_COUNT + count):
        start_s = time.perf_counter()
        call(str(1 + number % USER_COUNT))
        seconds.append(time.perf_counter() - start_s)
    return sorted(seconds[WARM_UP_COUNT:])


def quantiles(seconds: list[float]) -> dict[str, float]:
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {name: round(seconds[int(share * (len(seconds) - 1))] * 1000, 3) for name, share in at.items()}


def machine() -> str:
    """The processor's name, where the system tells it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as info:
            return next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(result: dict[str, Any]) -> str:
    rows = [f"{result['machine']}; {result['calls']:,} calls of each kind, one caller; milliseconds"]
    rows.append(f"{'':<22}{'p50':>8}{'p90':>8}{'p99':>8}{'p50 / empty':>14}")
    empty = result["ms"]["empty call"]["p50"]
    for name, ms in result["ms"].items():
        rows.append(
            f"{name:<22}{ms['p50']:>8.2f}{ms['p90']:>8.2f}{ms['p99']:>8.2f}{ms['p50'] / empty:>14.1f}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
