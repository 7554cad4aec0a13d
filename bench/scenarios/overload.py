"""Five times what one process can do, open loop: what is still answered and how soon, and who is refused first."""

from __future__ import annotations

from typing import Any

from bench.processes import Server
from bench.scenarios.context import Context, Found
from bench.scenarios.rounds import median
from bench.scenarios.speed import slim

OVERLOAD = 5.0  # times the most that is answered
SHARES = (0.85, 1.0, 1.15, 1.3)  # of the closed loop's saturation: the most is answered at one of them
SHEDDABLE_SHARE = 0.5  # of the calls, where priorities are told
SATURATION_CALLERS = 16
SECONDS_SHARE = 0.2  # of a run under load: ten runs of it are needed
WARM_UP_S = 1.5  # the limit is learnt in it


def overload(context: Context, server: Server) -> Found:
    """The greatest goodput first, then five times as many calls: goodput and p99 beside those at the greatest."""
    target = f"grpc://{server.address}"
    rates = [share * _saturation(context, target) for share in SHARES]
    search = [_flood(context, target, rate) for rate in rates]
    best = max(search, key=_accepted_per_s)["offered_per_s"]
    rounds = [_round(context, target, best) for _ in range(context.timing.rounds)]
    names = ("goodput_share", "p99_ratio", "refused_ms_p99", "normal_share")
    metrics = {f"overload_{name}": median(each[name] for each in rounds) for name in names}
    return Found(metrics, {"search": search, "rounds": rounds})


def _round(context: Context, target: str, best: float) -> dict[str, Any]:
    most = _flood(context, target, best)
    rate = OVERLOAD * _accepted_per_s(most)
    flooded = _flood(context, target, rate)
    mixed = _flood(context, target, rate, SHEDDABLE_SHARE)
    return {
        "goodput_share": _over(_accepted_per_s(flooded), _accepted_per_s(most)),
        "p99_ratio": _over(_p99(flooded, "accepted_ms"), _p99(most, "accepted_ms")),
        "refused_ms_p99": _p99(flooded, "refused_ms"),
        "normal_share": _over(mixed["normal"]["accepted_per_s"], _accepted_per_s(most)),
        "runs": [most, flooded, mixed],
    }


def _flood(context: Context, target: str, rate: float, sheddable_share: float = 0.0) -> dict[str, Any]:
    seconds = max(1.0, context.timing.seconds * SECONDS_SHARE)
    warm_up_s = min(WARM_UP_S, context.timing.warm_up_s)
    options: dict[str, Any] = {"rate": round(rate, 1), "sheddable_share": sheddable_share}
    found: dict[str, Any] = slim(
        context.load("flood", target, seconds=seconds, warm_up_s=warm_up_s, **options)
    )
    return found


def _saturation(context: Context, target: str) -> float:
    if not context.saturation_per_s:
        seconds = max(1.0, context.timing.seconds * SECONDS_SHARE)
        found = context.load("closed", target, callers=SATURATION_CALLERS, seconds=seconds)
        context.saturation_per_s = found["achieved_per_s"]
    return context.saturation_per_s


def _accepted_per_s(run: dict[str, Any]) -> float:
    return float(sum(run[name]["accepted_per_s"] for name in ("normal", "sheddable")))


def _p99(run: dict[str, Any], kind: str) -> float | None:
    value: float | None = run["normal"][kind].get("p99")
    return value


def _over(value: float | None, first: float | None) -> float | None:
    return value / first if value is not None and first else None
