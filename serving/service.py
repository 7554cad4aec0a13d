"""The RPC edge of RankingService: deadlines in, answers out."""

from __future__ import annotations

from typing import Any

import grpc
from reco.errors.v1 import error_reason_pb2
from reco.ranking.v1 import ranking_service_pb2_grpc
from reco.ranking.v1.ranking_service_pb2 import (
    ExplainRequest,
    RankItemsRequest,
    RecommendRequest,
    SimilarItemsRequest,
)

from runtime.errors import DeadlineError
from runtime.rpc import Timed
from serving import limits
from serving.answers import count_degradations
from serving.effort import Budget
from serving.engine import Engine
from serving.explain import explain
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
        answer = await recommend(request, self._engine, budget_of(context), watch)
        count_degradations(answer.degradations)
        return Timed(answer.body, watch.server_timing())

    async def Explain(self, request: ExplainRequest, context: Context) -> Any:  # noqa: N802 - as above
        return (await explain(request, self._engine, budget_of(context))).body

    async def RankItems(self, request: RankItemsRequest, context: Context) -> Any:  # noqa: N802 - as above
        watch = Stopwatch()
        answer = await rank_items(request, self._engine, budget_of(context).wait_until_s, watch)
        count_degradations(answer.degradations)
        return Timed(answer.body, watch.server_timing())

    async def SimilarItems(self, request: SimilarItemsRequest, context: Context) -> Any:  # noqa: N802 - as above
        answer = similar_items(request, self._engine)
        count_degradations(answer.degradations)
        return answer.body


def budget_of(context: Context) -> Budget:
    """How much time a call has. DeadlineError when it has none left: nothing is begun that nobody waits for."""
    left_s = context.time_remaining()
    if left_s is None:
        return Budget.of(limits.CALL_MS_DEFAULT / 1000)
    if left_s <= 0:
        raise DeadlineError(
            error_reason_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
            "the call's time was over before it was looked at; give it more, or send less at once",
            {"timeout_ms": "0"},
        )
    return Budget.of(left_s)
