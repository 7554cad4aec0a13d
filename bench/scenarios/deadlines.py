"""Calls with little time while Redis stands still again and again: which come too late, and how soon all is well afterwards."""

from __future__ import annotations

import time
from typing import Any

import grpc
from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest
from reco.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from bench.generate.attributes import user_id
from bench.load.answer import OK
from bench.processes import Server
from bench.scenarios.context import Context, Found, finish
from bench.scenarios.speed import LOAD_SHARE, slim

TIMEOUT_S = 0.05  # of every call of the load
PAUSE_MS = 300  # Redis takes no command for so long ...
CALM_S = 0.5  # ... and then works again for so long
RATE_MIN_PER_S = 50.0  # of the load, where saturation was not measured
TICK_S = 0.002
RECOVER_S_MAX = 5.0  # then it is told as this
CALL_WAIT_S_MAX = 30.0
UNKNOWN = Degradation.DEGRADATION_PROFILE_UNAVAILABLE


def deadlines(context: Context, server: Server) -> Found:
    """A load at half of saturation, every call with TIMEOUT_S; beside it one caller who reads what answers say."""
    rate = max(RATE_MIN_PER_S, context.saturation_per_s * LOAD_SHARE)
    load = context.start_load("open", f"grpc://{server.address}", rate=round(rate, 1), timeout_s=TIMEOUT_S)
    with grpc.insecure_channel(server.address) as channel:
        ranking: Any = RankingServiceStub(channel)  # type: ignore[arg-type]  # the stubs know asyncio's channels alone
        pauses = [_paused(context, ranking)]
        while load.poll() is None:
            pauses.append(_paused(context, ranking))
    found = slim(finish(load))
    late = sum(count for status, count in found["statuses"].items() if status != OK)
    metrics = {
        "deadline_late_count": float(late),
        "deadline_recover_s_max": max(each["recover_s"] for each in pauses),
    }
    return Found(metrics, {"pauses": pauses, "load": found})


def _paused(context: Context, ranking: Any) -> dict[str, float]:
    """One pause: answers without a profile while it lasts, and the seconds after it until one has it again."""
    context.system.pause_redis(PAUSE_MS)
    end_s = time.monotonic() + PAUSE_MS / 1000
    without = 0
    while time.monotonic() < end_s:
        without += not _has_profile(ranking)
    while not _has_profile(ranking) and time.monotonic() - end_s < RECOVER_S_MAX:
        time.sleep(TICK_S)
    recover_s = time.monotonic() - end_s
    time.sleep(CALM_S)
    return {"without_profile_count": float(without), "recover_s": recover_s}


def _has_profile(ranking: Any) -> bool:
    answer = ranking.Recommend(RecommendRequest(user_id=user_id(0)), timeout=CALL_WAIT_S_MAX)
    return UNKNOWN not in answer.degradations
