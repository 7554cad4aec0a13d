"""Run as a program: starts serving from the environment, asks it everything, and prints what was compiled after readiness."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module

from numba.core.registry import CPUDispatcher
from reco.ranking.v1.ranking_service_pb2 import (
    InlineEvent,
    RankItemsRequest,
    RecommendRequest,
    SimilarItemsRequest,
)

from runtime.settings import load_settings
from serving.server import running
from tests.integration.serving.conftest import connected

MODULES = (
    "serving.kernels",
    "serving.text_kernels",
    "profiles.kernels",
    "vectorizer.features",
    "vectorizer.foldin",
    "vectorizer.forest",
)
REQUESTS = (
    RecommendRequest(),
    RecommendRequest(user_id="ann", include_seen=True, page_size=200),
    RecommendRequest(
        user_id="ann",
        diversity=0.5,
        filter='categories:War AND year > 1985 title:T title>"A"',
        min_score=-1e9,
    ),
    RecommendRequest(user_id="nobody", recent_events=[InlineEvent(item_id="i1")], context_item_ids=["i2"]),
    RecommendRequest(session_id="s", exclude_item_ids=["i1"], filter="brand:b"),
)


def signatures() -> dict[str, list[str]]:
    found = {}
    for module in (*MODULES, "vectorizer.sources"):
        for name, value in vars(import_module(module)).items():
            if isinstance(value, CPUDispatcher) and value.__module__ == module:
                found[f"{module}.{name}"] = sorted(map(str, value.signatures))
    return found


async def main() -> None:
    async with running(load_settings()) as serving, connected(serving) as client:
        before = signatures()
        for request in REQUESTS:
            answer = await client.ranking.Recommend(request)
            request.page_token = answer.next_page_token
            await client.ranking.Recommend(request)
        await client.ranking.RankItems(RankItemsRequest(user_id="ann", item_ids=["i1", "i2"]))
        await client.ranking.SimilarItems(SimilarItemsRequest(item_id="i1", filter="tags:even"))
        after = signatures()
    late = {name: after[name] for name in after if after[name] != before.get(name)}
    json.dump({"late": late, "warm": sum(map(len, before.values()))}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
