"""The usual stack answers as the engine's own stages do, from the same data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest

from bench import data
from bench.dataset import Dataset
from bench.options import Options
from bench.peers import usual_ranker, usual_ring, usual_stack
from bench.peers.usual_candidates import candidates, lists, vectors
from bench.peers.usual_features import features
from bench.peers.usual_index import Exact, Graph, choose_ef, recall
from bench.peers.usual_stack import Recommender
from vectorizer import Workspace, gather, score, vectorize
from vectorizer.limits import RING_EVENT_COUNT_MAX
from vectorizer.request import features as engine_features

USERS = 50
SHARED_MIN = 18  # of 20 items; products that are equal but for rounding may be cut off differently


@pytest.fixture(scope="module")
def small() -> Dataset:
    return data.generate(Options(items=2_000, users=200))


@pytest.fixture(scope="module")
def stack(small: Dataset) -> Recommender:
    return Recommender(small.model, Exact(small.model.factors), usual_ranker.catboost_predict(small.model))


def ring_parts(ring: usual_ring.Ring) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    recent = ring[-RING_EVENT_COUNT_MAX:]
    rows, codes, times = (np.ascontiguousarray(recent[name]) for name in ("row", "code", "time"))
    return rows, codes, times


def now_of(small: Dataset) -> int:
    return int(small.model.params["trained_until_s"]) + 1_000


def test_features_and_scores_are_the_engines(small: Dataset) -> None:
    model, workspace, now_s = small.model, Workspace(small.model), now_of(small)
    predict, exact = usual_ranker.catboost_predict(model), Exact(model.factors)
    for user in small.query_users[:10].tolist():
        ring = usual_ring.ring_of(small, user)
        recent, (rows, codes, times) = ring[-RING_EVENT_COUNT_MAX:], ring_parts(ring)
        vector = vectorize(rows, codes, times, model, workspace)
        gather(rows, codes, times, vector, model, workspace)
        found, touched = vectors(recent, model), lists(recent, model)
        near = candidates(ring["row"], found[0], touched, model, exact)
        matrix = features(near, recent, found, touched, now_s, model)
        expected = engine_features(near, rows, codes, times, now_s, vector, model, workspace).T.copy()
        np.testing.assert_allclose(matrix, expected, rtol=1e-3, atol=1e-4)
        scores = score(near, rows, codes, times, now_s, vector, model, workspace)
        np.testing.assert_allclose(predict(expected), scores, atol=1e-5)


def test_top_items_are_the_engines(small: Dataset, stack: Recommender) -> None:
    model, workspace, now_s = small.model, Workspace(small.model), now_of(small)
    users = [
        u for u in small.query_users.tolist() if len(usual_ring.ring_of(small, u)) <= RING_EVENT_COUNT_MAX
    ]
    for user in users[:USERS]:
        ring = usual_ring.ring_of(small, user)
        rows, codes, times = ring_parts(ring)
        vector = vectorize(rows, codes, times, model, workspace)
        near = gather(rows, codes, times, vector, model, workspace).rows
        scores = score(near, rows, codes, times, now_s, vector, model, workspace)
        best = near[np.argsort(-scores, kind="stable")[:20]]
        shared = np.intersect1d(best, stack.recommend(ring, now_s)[0])
        assert len(shared) >= SHARED_MIN, f"user {user}"
    assert len(users) >= USERS


def test_no_item_of_the_ring_is_recommended(small: Dataset, stack: Recommender) -> None:
    for user in small.query_users[:USERS].tolist():
        ring = usual_ring.ring_of(small, user)
        rows, _ = stack.recommend(ring, now_of(small))
        assert len(rows) == 20
        assert not np.isin(rows, ring["row"]).any()


def test_unknown_user_gets_popular_items(small: Dataset, stack: Recommender) -> None:
    rows, _ = stack.recommend(usual_ring.decode(None), now_of(small))
    assert rows.tolist() == small.model.popularity_order[:20].tolist()


needs_hnswlib = pytest.mark.skipif(
    find_spec("hnswlib") is None, reason="hnswlib is built from source: `make bench-quick` sets it up"
)


@needs_hnswlib
@pytest.mark.parametrize("space", ["ip", "l2", "cosine"])
def test_graph_is_kept_and_found_again(small: Dataset, tmp_path: Path, space: str) -> None:
    made = Graph(small.model.factors, space, tmp_path)
    again = Graph(small.model.factors, space, tmp_path)
    made.set_ef(400)
    again.set_ef(400)
    for query in small.queries[:5]:
        assert np.array_equal(made.nearest(query, 100), again.nearest(query, 100))
    assert len(list(tmp_path.iterdir())) == 1


@needs_hnswlib
def test_ef_is_the_first_with_the_recall(small: Dataset) -> None:
    graph = Graph(small.model.factors, "l2", None)
    found = choose_ef(graph, small)
    assert found >= 0.99
    assert recall(graph, small) == found


def test_exact_index_has_recall_one(small: Dataset) -> None:
    assert recall(Exact(small.model.factors), small, 20) >= 0.999  # products that are equal may change places


class Store:
    """A redis.asyncio client's `get`, over a dict."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values

    async def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    async def aclose(self) -> None: ...


@asynccontextmanager
async def client_of(app: object) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # FastAPI's is an ASGI application
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_route_answers_twenty_items_and_its_time(
    small: Dataset, stack: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = int(small.query_users[0])
    values = {usual_ring.key_of("somebody"): usual_ring.ring_of(small, user).tobytes()}
    monkeypatch.setattr(usual_stack.redis.asyncio, "from_url", lambda url: Store(values))
    async with client_of(usual_stack.app_of(stack, "redis://test")) as client:
        answer = await client.get("/v1/users/somebody/recommendations")
    items = answer.json()["items"]
    assert [set(item) for item in items] == [{"item_id", "score"}] * 20
    assert [item["score"] for item in items] == sorted((item["score"] for item in items), reverse=True)
    assert answer.headers["server-timing"].startswith("total;dur=")
