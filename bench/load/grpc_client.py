"""The gRPC client: bytes made beforehand go out, bytes that are not parsed come in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from reco.ranking.v1.ranking_service_pb2 import RankItemsRequest, RecommendRequest

from bench.load.answer import OK, Answer
from bench.load.target import ITEMS_DEFAULT, RPCS, Target

CANDIDATES = 100  # of a RankItems call
RANKED_USERS_MAX = 2_000  # each has a request of 1.5 KB made beforehand
ITEM_FORMAT = "item-{:08d}"  # of bench.generate's items
SEED = 7

# Channels share a connection to the same address unless they are told not to.
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


class GrpcCaller:
    """Spreads its calls over `connections` in turn. For one event loop."""

    def __init__(self, target: Target, users: Sequence[str], connections: int, timeout_s: float) -> None:
        host = f"[{target.host}]" if ":" in target.host else target.host
        self._channels = [
            grpc.aio.insecure_channel(f"{host}:{target.port}", options=OPTIONS) for _ in range(connections)
        ]
        self._calls: list[Any] = [channel.unary_unary(target.path) for channel in self._channels]
        self._requests = requests_of(target.path, users, target.items)
        self._timeout_s = timeout_s
        self._turn = 0

    async def call(self, user: int) -> Answer:
        self._turn = (self._turn + 1) % len(self._calls)
        call: Any = self._calls[self._turn](
            self._requests[user % len(self._requests)], timeout=self._timeout_s
        )
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name, perf_counter(), "")
        end_s = perf_counter()
        return Answer(OK, end_s, _server_timing(await call.trailing_metadata()))

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(None)


def requests_of(path: str, users: Sequence[str], items: int = ITEMS_DEFAULT) -> list[bytes]:
    """What an RPC is asked, for each user; RankItems about CANDIDATES of the generated items, others for each."""
    if path == RPCS["empty"]:
        return [HealthCheckRequest().SerializeToString()]
    if path == RPCS["RankItems"]:
        drawn = random.Random(SEED)  # noqa: S311  # keeps no secret
        return [
            _rank(user, [drawn.randint(1, items) for _ in range(CANDIDATES)])
            for user in users[:RANKED_USERS_MAX]
        ]
    return [RecommendRequest(user_id=user).SerializeToString() for user in users]


def _rank(user: str, keys: Sequence[int]) -> bytes:
    return RankItemsRequest(
        user_id=user, item_ids=[ITEM_FORMAT.format(key) for key in keys]
    ).SerializeToString()


def _server_timing(metadata: Any) -> str:
    for name, value in metadata or ():
        if name == "server-timing":
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return ""
