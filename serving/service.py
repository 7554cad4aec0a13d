"""The RPC edge of RankingService: deadlines in, answers out."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from reco.ranking.v1 import ranking_service_pb2_grpc
from reco.ranking.v1.ranking_service_pb2 import (
    RankItemsRequest,
    RecommendRequest,
    SimilarItemsRequest,
)

from runtime.rpc import Timed
from serving import limits
from serving.answers import count_degradations
from serving.engine import Engine
from serving.pipeline import recommend
from serving.rank_items import rank_items
from serving.similar import similar_items
from serving.stopwatch import Stopwatch

Context = grpc.aio.ServicerContext[Any, Any]


class RankingService(ranking_service_pb2_grpc.RankingServiceServicer):
    """Answers what to show. Requests are validated before they come here (runtime/rpc.py)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Recommend(self, request: RecommendRequest, context: Context) -> Any:  # noqa: N802 - the contract's name
        watch = Stopwatch()
        answer = await recommend(request, self._engine, _deadline_s(context), watch)
        count_degradations(answer.degradations)
        return Timed(answer.body, watch.server_timing())

    async def RankItems(self, request: RankItemsRequest, context: Context) -> Any:  # noqa: N802 - as above
        answer = await rank_items(request, self._engine, _deadline_s(context))
        count_degradations(answer.degradations)
        return answer.body

    async def SimilarItems(self, request: SimilarItemsRequest, context: Context) -> Any:  # noqa: N802 - as above
        answer = similar_items(request, self._engine)
        count_degradations(answer.degradations)
        return answer.body


def _deadline_s(context: Context) -> float:
    """When the profile must be there, in the loop's clock: what comes after it has COMPUTE_MS_RESERVE."""
    remaining_s = context.time_remaining()
    left_ms = limits.CALL_MS_DEFAULT if remaining_s is None else remaining_s * 1000
    # Of a deadline that is shorter than that, the profile gets half: it usually takes a fraction of a millisecond.
    wait_ms = max(left_ms - limits.COMPUTE_MS_RESERVE, left_ms / 2)
    return asyncio.get_running_loop().time() + wait_ms / 1000
