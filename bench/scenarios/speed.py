"""Throughput and latency of one serving process on one core; what is around a call; what REST adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.processes import Server
from bench.scenarios.context import Context, Found, finish

LOAD_SHARE = 0.5  # of saturation: latency is told there
RATES = (0.1, 0.25, 0.5, 0.7, 0.85)  # of saturation, for the picture of latency over rate
QUICK_RATES = (0.1, 0.35, 0.7)
CALLERS_A_PAIR = 8


def throughput(context: Context, server: Server) -> Found:
    """Calls/s at saturation, the server alone on its core."""
    seconds = max(2.0, context.timing.seconds / 2)
    found = context.load("saturation", f"grpc://{server.address}", seconds=seconds)
    context.saturation_per_s = found["max_per_s"]
    return Found({"calls_per_core_s": found["max_per_s"]}, slim(found))


def latency(context: Context, server: Server) -> Found:
    """Open loop at half of saturation: the handler's own time, and the whole call's."""
    found = at_rate(context, f"grpc://{server.address}", context.saturation_per_s * LOAD_SHARE)
    handler = found["stages_ms"].get("total", {})
    metrics = {"handler_ms_p50": handler.get("p50"), "handler_ms_p99": handler.get("p99")}
    return Found(metrics, found)


def over_rate(context: Context, server: Server, quick: bool) -> Found:
    """Open loops at several rates, for the report."""
    rates = [share * context.saturation_per_s for share in (QUICK_RATES if quick else RATES)]
    return Found({}, {"runs": [at_rate(context, f"grpc://{server.address}", rate) for rate in rates]})


def at_rate(context: Context, target: str, rate: float) -> dict[str, Any]:
    """One open loop at `rate` calls/s."""
    found: dict[str, Any] = slim(context.load("open", target, rate=round(rate, 1)))
    return found


def one_caller(context: Context, server: Server) -> Found:
    """A call beside the same server's empty one, in turn."""
    targets = (f"grpc://{server.address}/empty", f"grpc://{server.address}/Recommend")
    found = context.load("interleaved", *targets, calls=context.timing.calls)
    return Found({"call_over_empty": _compared(found, "ratio")}, slim(found))


def rest(context: Context, server: Server) -> Found:
    """A call over REST beside one over gRPC, in turn, one caller."""
    with context.system.gateway(server, {context.load_core}) as gateway:
        targets = (f"grpc://{server.address}/Recommend", f"http://{gateway.address}")
        found = context.load("interleaved", *targets, calls=context.timing.calls)
    return Found({"rest_over_grpc_ms": _compared(found, "ms")}, slim(found))


def two_cores(context: Context, server: Server) -> Found:
    """One core with a server, its callers and Valkey, against two cores with two servers, their callers and the same Valkey.

    A machine of two cores has no third for the callers, so each core carries its own: what is shared (Valkey, memory, the
    mapped bundle) is then all that can keep two cores from doing twice the work of one.
    """
    one, two = context.serving_core, context.load_core
    context.system.pin_valkey({one})
    alone = finish(_pair(context, server, one))
    context.system.pin_valkey({one, two})
    with context.system.serving({two}) as second:
        runs = [_pair(context, server, one), _pair(context, second, two)]
        both = [finish(run) for run in runs]
    context.system.pin_valkey({two})
    rates = [run["achieved_per_s"] for run in (alone, *both)]
    ratio = (rates[1] + rates[2]) / rates[0] if rates[0] else None
    details = {
        "one_core_per_s": rates[0],
        "two_cores_per_s": rates[1:],
        "runs": [slim(run) for run in (alone, *both)],
    }
    return Found({"two_cores_over_one": ratio if one != two else None}, details)


def _pair(context: Context, server: Server, core: int) -> Any:
    return context.start_load("closed", f"grpc://{server.address}", core=core, callers=CALLERS_A_PAIR)


def _compared(found: Mapping[str, Any], name: str) -> float | None:
    second = found["over_first"][1]
    return second[name] if second else None


def slim(found: Any) -> Any:
    """Without the encoded histograms: they take a hundred times the room of everything else."""
    if isinstance(found, dict):
        return {key: slim(value) for key, value in found.items() if not key.endswith("histogram")}
    return [slim(value) for value in found] if isinstance(found, list) else found
