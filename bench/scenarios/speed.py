"""Throughput and latency of one serving process on one core; what is around a call; what REST adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.processes import Server
from bench.scenarios.context import Context, Found, finish
from bench.scenarios.rounds import median, middle

LOAD_SHARE = 0.5  # of saturation: latency is told there
RATES = (0.1, 0.25, 0.5, 0.7, 0.85)  # of saturation, for the picture of latency over rate
QUICK_RATES = (0.1, 0.35, 0.7)
CALLERS_A_PAIR = 8
H2LOAD_CALLERS = 16


def throughput(context: Context, server: Server) -> Found:
    """Calls/s at saturation, the server alone on its core. The number of callers is chosen first, then counted anew."""
    target, seconds = f"grpc://{server.address}", max(1.0, context.timing.seconds / 3)
    found = slim(context.load("saturation", target, seconds=seconds))
    rounds: list[Any] = []
    if context.timing.rounds > 1:
        rounds = [
            slim(context.load("closed", target, seconds=seconds, callers=found["callers"]))
            for _ in range(context.timing.rounds)
        ]
    rate = median(run["achieved_per_s"] for run in rounds) or found["max_per_s"]
    context.saturation_per_s = rate
    return Found({"calls_per_core_s": rate}, found | {"rounds": rounds})


def latency(context: Context, server: Server) -> Found:
    """Open loop at half of saturation: the handler's own time, and the whole call's."""
    rate = context.saturation_per_s * LOAD_SHARE
    runs = [at_rate(context, f"grpc://{server.address}", rate) for _ in range(context.timing.rounds)]
    metrics = {
        "handler_ms_p50": median(handler_ms(run, "p50") for run in runs),
        "handler_ms_p99": median(handler_ms(run, "p99") for run in runs),
        "call_ms_p50": median(run["latency_ms"].get("p50") for run in runs),
        "call_ms_p99": median(run["latency_ms"].get("p99") for run in runs),
    }
    return Found(metrics, middle(runs, lambda run: handler_ms(run, "p99")))


def handler_ms(run: Mapping[str, Any], percentile: str) -> float | None:
    """A percentile of what the answers say of their own time."""
    value: float | None = run["stages_ms"].get("total", {}).get(percentile)
    return value


def over_rate(context: Context, server: Server) -> Found:
    """Open loops at several rates, for the report."""
    rates = [
        share * context.saturation_per_s for share in (RATES if context.timing.rounds > 1 else QUICK_RATES)
    ]
    seconds = max(1.0, context.timing.seconds / 2)
    return Found(
        {}, {"runs": [at_rate(context, f"grpc://{server.address}", rate, seconds) for rate in rates]}
    )


def at_rate(context: Context, target: str, rate: float, seconds: float | None = None) -> dict[str, Any]:
    """One open loop at `rate` calls/s."""
    options: dict[str, Any] = {"rate": round(rate, 1), "seconds": seconds or context.timing.seconds}
    found: dict[str, Any] = slim(context.load("open", target, **options))
    return found


def one_caller(context: Context, server: Server) -> Found:
    """A call beside the same server's empty one, in turn."""
    targets = (f"grpc://{server.address}/empty", f"grpc://{server.address}/Recommend")
    return _in_turn(context, targets, "call_over_empty", "ratio")


def rank(context: Context, server: Server) -> Found:
    """A RankItems call about 100 candidates beside the same server's empty one, in turn."""
    items = context.system.options.items
    targets = (f"grpc://{server.address}/empty", f"grpc://{server.address}/RankItems?items={items}")
    return _in_turn(context, targets, "rank_100_over_empty", "ratio")


def rest(context: Context, server: Server) -> Found:
    """A call over REST beside one over gRPC, in turn, one caller."""
    with context.system.gateway(server, {context.load_core}) as gateway:
        context.watched["gateway"] = gateway.pids
        targets = (f"grpc://{server.address}/Recommend", f"http://{gateway.address}")
        found = _in_turn(context, targets, "rest_over_grpc_ms", "ms")
    del context.watched["gateway"]
    return found


def _in_turn(context: Context, targets: tuple[str, str], metric: str, name: str) -> Found:
    calls, rounds = context.timing.calls, context.timing.caller_rounds
    runs = [slim(context.load("interleaved", *targets, calls=calls)) for _ in range(rounds)]
    values = [_compared(run, name) for run in runs]
    return Found({metric: median(values)}, {"values": values, "rounds": runs})


def second_opinion(context: Context, server: Server) -> Found:
    """The same server under h2load, which no one here wrote. Raises RuntimeError where it is not installed."""
    callers: dict[str, Any] = {"callers": H2LOAD_CALLERS}
    seconds = max(1.0, context.timing.seconds / 3)
    calls = context.load("h2load", f"grpc://{server.address}/Recommend", seconds=seconds, **callers)
    empty = context.load("h2load", f"grpc://{server.address}/empty", seconds=seconds, **callers)
    return Found({"h2load_calls_s": calls["achieved_per_s"]}, {"calls": calls, "empty": empty})


def two_cores(context: Context, server: Server) -> Found:
    """One core with a server, its callers and Valkey, against two cores with two servers, their callers and the same Valkey.

    A machine of two cores has no third for the callers, so each core carries its own: what is shared (Valkey, memory, the
    mapped bundle) is then all that can keep two cores from doing twice the work of one.
    """
    if context.serving_core == context.load_core:
        return Found({"two_cores_over_one": None}, {"cores": 1})
    with context.system.serving({context.load_core}) as second:
        rounds = [_one_and_two(context, server, second) for _ in range(context.timing.rounds)]
    context.system.pin_valkey({context.load_core})
    return Found({"two_cores_over_one": median(each["ratio"] for each in rounds)}, {"rounds": rounds})


def _one_and_two(context: Context, server: Server, second: Server) -> dict[str, Any]:
    one, two = context.serving_core, context.load_core
    context.system.pin_valkey({one})
    alone = finish(_pair(context, server, one))
    context.system.pin_valkey({one, two})
    started = [_pair(context, server, one), _pair(context, second, two)]
    both = [finish(run) for run in started]
    rates = [run["achieved_per_s"] for run in (alone, *both)]
    return {
        "one_core_per_s": rates[0],
        "two_cores_per_s": rates[1:],
        "ratio": sum(rates[1:]) / rates[0] if rates[0] else None,
        "runs": [slim(run) for run in (alone, *both)],
    }


def _pair(context: Context, server: Server, core: int) -> Any:
    target, seconds = f"grpc://{server.address}", max(1.0, context.timing.seconds / 2)
    # No one goes first here: server, callers and Valkey get what they need of their one core.
    return context.start_load("closed", target, core=core, callers=CALLERS_A_PAIR, seconds=seconds, nice=0)


def _compared(found: Mapping[str, Any], name: str) -> float | None:
    second = found["over_first"][1]
    return second[name] if second else None


def slim(found: Any) -> Any:
    """Without the encoded histograms: they take a hundred times the room of everything else."""
    if isinstance(found, dict):
        return {key: slim(value) for key, value in found.items() if not key.endswith("histogram")}
    return [slim(value) for value in found] if isinstance(found, list) else found
