"""The stack that a good Python team would otherwise write, with the same data and the same answers.

FastAPI on uvicorn (uvloop, httptools), redis.asyncio with hiredis, hnswlib, numpy, CatBoost's own predict, orjson.

    python -m bench.peers.usual_stack load  --dataset DIR --redis redis://127.0.0.1:6379
    python -m bench.peers.usual_stack serve --dataset DIR --redis redis://127.0.0.1:6379 --port 9000 --core 0

`serve` prints one line of JSON when it answers. What a reader may check for fairness: each request is one GET from Redis;
nothing waits or sleeps; numpy is vectorised throughout, with one batched solve for all three fold-ins; CatBoost scores the
same trees; the index's ef is the smallest with the recall that the engine aims at; the answer is bytes of orjson, with no
response model in between; logs of access are off; one process, one thread, one core, as the engine's in the same run. It
does less than the engine: no filters, tokens, new or trending items, no validation beyond the path.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import redis
import redis.asyncio
import uvicorn
from fastapi import FastAPI, Response
from threadpoolctl import threadpool_limits

import bench.dataset
from bench.dataset import Dataset
from bench.generate.attributes import item_id
from bench.peers import usual_ranker, usual_ring
from bench.peers.usual_candidates import candidates, lists, vectors
from bench.peers.usual_features import features
from bench.peers.usual_index import SPACES, Graph, Index, choose_ef
from bench.peers.usual_ranker import Predict
from bench.peers.usual_ring import Ring
from vectorizer.limits import RING_EVENT_COUNT_MAX
from vectorizer.model import ModelArrays

PAGE_SIZE = 20
FIT_USERS = 300  # whose candidates LightGBM is fitted to: 60,000 rows
Scored = tuple[np.ndarray, np.ndarray]


class Recommender:
    """The request after its ring has been read."""

    def __init__(self, model: ModelArrays, index: Index, predict: Predict) -> None:
        self._model, self._index, self._predict = model, index, predict
        self._ids = [item_id(key) for key in model.item_keys.tolist()]

    def answer(self, ring: Ring, now_s: int) -> bytes:
        """JSON with the best PAGE_SIZE items."""
        rows, scores = self.recommend(ring, now_s)
        pairs = zip(rows.tolist(), scores.tolist(), strict=True)
        return orjson.dumps({"items": [{"item_id": self._ids[row], "score": score} for row, score in pairs]})

    def recommend(self, ring: Ring, now_s: int) -> Scored:
        """Rows and scores, best first."""
        model = self._model
        recent = ring[-RING_EVENT_COUNT_MAX:]
        found = vectors(recent, model)
        if not found[0].any():
            rows = model.popularity_order[: PAGE_SIZE + len(ring)]
            rows = rows[~np.isin(rows, ring["row"])][:PAGE_SIZE]
            return rows, model.popularity[rows]
        rows, matrix = self.ranked(ring, now_s)
        scores = self._predict(matrix)
        best = np.argsort(-scores, kind="stable")[:PAGE_SIZE]
        return rows[best], scores[best]

    def ranked(self, ring: Ring, now_s: int) -> Scored:
        """The candidates' rows and features."""
        recent = ring[-RING_EVENT_COUNT_MAX:]
        found, touched = vectors(recent, self._model), lists(recent, self._model)
        rows = candidates(ring["row"], found[0], touched, self._model, self._index)
        return rows, features(rows, recent, found, touched, now_s, self._model)


def app_of(recommender: Recommender, url: str) -> FastAPI:
    """The application; it opens its Redis client with the server and closes it again."""
    store = redis.asyncio.from_url(url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await store.aclose()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get("/v1/users/{user_id}/recommendations")
    async def recommendations(user_id: str) -> Response:
        start_s = time.perf_counter()
        packed = await store.get(usual_ring.key_of(user_id))
        body = recommender.answer(usual_ring.decode(packed), int(time.time()))
        timing = f"total;dur={(time.perf_counter() - start_s) * 1000:.3f}"
        return Response(body, media_type="application/json", headers={"Server-Timing": timing})

    return app


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("load", "serve"))
    parser.add_argument("--dataset", type=Path, required=True, help="a folder of bench.data")
    parser.add_argument("--redis", required=True, help="URL")
    parser.add_argument("--port", type=int, default=9000, help="on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--core", type=int, help="run on this core alone")
    parser.add_argument(
        "--space",
        choices=SPACES,
        default="l2",
        help="how hnswlib is asked for inner products (default: %(default)s)",
    )
    parser.add_argument("--ranker", choices=("catboost", "lightgbm"), default="catboost")
    options = parser.parse_args()
    data = bench.dataset.read(options.dataset)
    if options.action == "load":
        print(json.dumps({"users": usual_ring.load(data, redis.Redis.from_url(options.redis))}))
    else:
        serve(data, options)


def serve(data: Dataset, options: argparse.Namespace) -> None:
    """Builds or loads the index, says what it can do, and answers until it is stopped."""
    start_s = time.perf_counter()
    threads = os.cpu_count() or 1
    graph = Graph(data.model.factors, options.space, options.dataset, threads)  # before it is pinned
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    threadpool_limits(1)
    recall = choose_ef(graph, data)
    predict = predict_of(data, graph, options.ranker)
    app = app_of(Recommender(data.model, graph, predict), options.redis)
    config = uvicorn.Config(
        app, "127.0.0.1", options.port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    said = {"port": options.port, "space": options.space, "ef": graph.ef, "recall_at_200": recall,
            "ranker": options.ranker, "ready_s": time.perf_counter() - start_s}  # fmt: skip
    _Server(config, said).run()


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, said: dict[str, Any]) -> None:
        super().__init__(config)
        self._said = said

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(json.dumps(self._said), flush=True)


def predict_of(data: Dataset, index: Index, name: str) -> Predict:
    """The chosen library's predict."""
    catboost = usual_ranker.catboost_predict(data.model)
    if name == "catboost":
        return catboost
    recommender = Recommender(data.model, index, catboost)
    now_s = int(data.model.params["trained_until_s"])
    users = data.query_users[:FIT_USERS].tolist()
    matrix = np.concatenate([recommender.ranked(usual_ring.ring_of(data, user), now_s)[1] for user in users])
    return usual_ranker.lightgbm_predict(matrix, catboost(matrix))


if __name__ == "__main__":
    main()
