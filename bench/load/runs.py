"""The kinds of run, each from targets to results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.load import closed_loop, flood, open_loop, session
from bench.load.answer import Caller
from bench.load.grpc_client import requests_of
from bench.load.limits import CALLERS_MAX, IN_FLIGHT_MAX, SATURATION_CALLERS, TIMEOUT_S
from bench.load.result import LoadResult, result_of
from bench.load.schedule import draw, hold_to_bounds
from bench.load.target import Target


@dataclass(frozen=True)
class Plan:
    """What the kinds have in common."""

    users: Sequence[str]
    seconds: float
    warm_up_s: float
    seed: int
    connections: int
    timeout_s: float = TIMEOUT_S


def open_run(target: Target, plan: Plan, rate: float, arrivals: str, in_flight_max: int) -> LoadResult:
    """`rate` calls/s by the clock."""
    if not 1 <= in_flight_max <= IN_FLIGHT_MAX:
        raise ValueError(f"in flight are 1 to {IN_FLIGHT_MAX}")
    schedule = draw(rate, plan.seconds, plan.warm_up_s, len(plan.users), plan.seed, arrivals)

    async def work(callers: list[Caller]) -> LoadResult:
        record = await open_loop.run(schedule, callers[0], in_flight_max, plan.timeout_s)
        return result_of(record, "open", target.name, offered_per_s=rate, seconds=plan.seconds)

    return session.run([target], plan.users, plan.connections, work, plan.timeout_s)


def flood_run(
    target: Target, plan: Plan, rate: float, arrivals: str, sheddable_share: float
) -> dict[str, object]:
    """`rate` calls/s by the clock, which may be many times what the server can answer. gRPC only."""
    if target.scheme != "grpc":
        raise ValueError("a flood is of gRPC calls: give a target that starts with grpc://")
    schedule = draw(rate, plan.seconds, plan.warm_up_s, len(plan.users), plan.seed, arrivals)
    requests = requests_of(target.path, plan.users)
    try:
        found = flood.run(target, schedule, requests, plan.connections, sheddable_share, plan.seed)
    except OSError as error:
        raise ValueError(f"{target.name} does not take the calls: {error}") from None
    return {"offered_per_s": rate} | found


def closed_run(target: Target, plan: Plan, count: int) -> LoadResult:
    """As many calls as `count` callers can make."""
    hold_to_bounds(1.0, plan.seconds, plan.warm_up_s)
    if not 1 <= count <= CALLERS_MAX:
        raise ValueError(f"callers are 1 to {CALLERS_MAX}")

    async def work(callers: list[Caller]) -> LoadResult:
        record = await closed_loop.run(
            callers[0], count, plan.seconds, plan.warm_up_s, len(plan.users), plan.seed, plan.timeout_s
        )
        return result_of(record, "closed", target.name, callers=count, seconds=plan.seconds)

    return session.run([target], plan.users, plan.connections, work, plan.timeout_s)


def saturation_run(target: Target, plan: Plan) -> dict[str, object]:
    """A closed loop at each of a few numbers of callers; the best of them is what the server can do."""
    results = [closed_run(target, plan, count) for count in SATURATION_CALLERS]
    best = max(results, key=lambda result: result.achieved_per_s)
    return {
        "max_per_s": best.achieved_per_s,
        "callers": best.callers,
        "results": [result.to_json() for result in results],
    }


def interleaved_run(
    targets: Sequence[Target], plan: Plan, calls: int, warm_up_calls: int
) -> dict[str, object]:
    """One caller, a call to each target in turn; `over_first` compares p50 with the first target's."""

    async def work(callers: list[Caller]) -> list[LoadResult]:
        records = await closed_loop.run_interleaved(callers, calls, warm_up_calls, len(plan.users), plan.seed)
        pairs = zip(records, targets, strict=True)
        return [result_of(record, "interleaved", target.name, callers=1) for record, target in pairs]

    results = session.run(targets, plan.users, plan.connections, work, plan.timeout_s)
    p50s = [result.latency_ms.get("p50") for result in results]
    first = p50s[0]
    over = [{"ratio": p50 / first, "ms": p50 - first} if p50 and first else None for p50 in p50s]
    return {"over_first": over, "results": [result.to_json() for result in results]}
