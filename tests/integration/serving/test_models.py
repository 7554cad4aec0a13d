"""Models: publish, swap under load, refuse, roll back; over real gRPC and real Postgres."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import weakref
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from reco.ranking.v1.model_service_pb2 import (
    ActivateModelRequest,
    GetModelRequest,
    ListModelsRequest,
    ModelState,
    RollBackModelRequest,
)
from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest, SimilarItemsRequest

from bundle import open_bundle, registry
from profiles.signals import Signal
from runtime import metrics
from runtime.clock import ManualClock
from runtime.errors import RecoError
from runtime.postgres import open_pool
from serving.limits import REFUSED_RETRY_S
from serving.model import MemoryBound
from serving.model_store import ModelStore
from tests.integration.serving.conftest import ITEM_COUNT, NOW_S, Client, World
from tests.integration.serving.models import make_model
from tests.integration.serving.test_recommend import ids, refusal
from vectorizer import ModelArrays, Workspace, gather, score, vectorize
from vectorizer.features import FEATURES
from vectorizer.model import BUCKET_EDGE_COUNT

SWAP_COUNT = 6
CALLERS = 8
BUCKET_WIDTH_S = 7 * 86_400


def value(registry_: CollectorRegistry, name: str, **labels: str) -> float:
    return registry_.get_sample_value(name, labels) or 0.0


async def test_publish_when_first_is_activated(stocked: World) -> None:
    outcome = await stocked.publish(make_model(await stocked.keys()))
    assert outcome.activated
    rows = await stocked.sql("select state, item_count, event_count, has_ranker from models")
    assert rows == [("active", 60, 100, True)]
    assert await stocked.sql("select version from model_activations") == [(outcome.version,)]


@pytest.mark.parametrize(("ndcg", "activated"), [(0.097, False), (0.0981, True), (0.2, True)])
async def test_publish_when_worse_than_the_margin_is_held(
    stocked: World, ndcg: float, activated: bool
) -> None:
    keys = await stocked.keys()
    first = await stocked.publish(make_model(keys), ndcg=0.1)
    second = await stocked.publish(make_model(keys, seed=2), ndcg=ndcg)
    assert second.activated is activated
    async with open_pool(stocked.settings.postgres_url) as pool:
        assert await registry.active_version(pool) == (second if activated else first).version
        model = await registry.get_model(pool, second.version)
    assert model.state == (registry.ACTIVE if activated else registry.HELD)
    assert ("worse" in model.note) is not activated


async def test_publish_orders_rows_by_norm_and_drops_old_buckets_and_serves_the_same_scores(
    stocked: World,
) -> None:
    model = with_buckets(make_model(await stocked.keys()), bucket_count=30)
    outcome = await stocked.publish(model)
    stored = open_bundle(stocked.settings.models_dir / outcome.version)
    assert (np.diff(stored.arrays["factor_norms"]) <= 0).all()
    assert sorted(stored.arrays["item_keys"]) == sorted(model.item_keys)
    assert stored.arrays["bucket_counts"].shape == (len(model.item_keys), BUCKET_EDGE_COUNT)
    end_s = [each["bucket_start_s"] + edges * BUCKET_WIDTH_S for each, edges in
             ((model.params, 30), (stored.manifest.params, BUCKET_EDGE_COUNT - 1))]  # fmt: skip
    assert end_s[0] == end_s[1]
    await stocked.see("u:ann", model.item_keys[:5])
    async with stocked.serve() as client:
        answer = await client.ranking.Recommend(RecommendRequest(user_id="ann", page_size=40))
        keys = client.serving.engine.catalogue.keys_of(ids(answer))
    scores = np.array([item.score for item in answer.items])
    assert len(np.unique(scores)) > len(scores) // 2
    np.testing.assert_allclose(scores, scores_of(model, model.item_keys[:5], keys), rtol=1e-5)


def with_buckets(model: ModelArrays, bucket_count: int) -> ModelArrays:
    """The model with bucket edges up to now, and a forest that looks at nothing but them."""
    random = np.random.default_rng(5)
    counts = np.cumsum(random.integers(0, 9, (model.item_count, bucket_count + 1)), axis=1).astype(np.float32)
    features = [FEATURES.index(name) for name in ("popularity_week", "popularity_month", "popularity_trend")]
    return replace(
        model,
        bucket_counts=counts,
        bucket_totals=counts.sum(axis=0),
        forest_features=np.tile(np.array([features], dtype=np.int32), (8, 1)),
        forest_borders=(np.array([-4.1, -4.1, 0]) + random.normal(size=(8, 3)) * 0.3).astype(np.float32),
        forest_leaves=random.random((8, 8)).astype(np.float32),
        params={
            **model.params,
            "bucket_start_s": int(time.time()) - bucket_count * BUCKET_WIDTH_S,
            "bucket_width_s": BUCKET_WIDTH_S,
        },
    )


def scores_of(model: ModelArrays, ring_keys: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """What the vectorizer says of `keys` by this model, after the clicks of `World.see`."""
    rows, workspace = model.rows_of(ring_keys), Workspace(model)
    codes = np.full(len(rows), int(Signal.CLICK), dtype=np.uint8)
    times = (NOW_S + np.arange(len(rows))).astype(np.uint32)
    vector = vectorize(rows, codes, times, model, workspace)
    gather(rows, codes, times, vector, model, workspace)
    candidates = model.rows_of(keys)
    return score(candidates, rows, codes, times, int(time.time()), vector, model, workspace)


async def test_publish_when_registry_fails_leaves_no_bundle_behind(stocked: World) -> None:
    await stocked.sql("drop table model_activations")
    with pytest.raises(RecoError):
        await stocked.publish(make_model(await stocked.keys()))
    assert await stocked.sql("select * from models") == []
    assert list(stocked.settings.models_dir.iterdir()) == []


async def test_swap_when_bundle_is_mended_is_tried_again(client: Client, modelled: World) -> None:
    outcome = await modelled.publish(make_model(await modelled.keys(), 2), ndcg=0.5)
    clock = ManualClock()
    file = modelled.settings.models_dir / outcome.version / "gram.npy"
    hidden = file.rename(file.with_suffix(".hidden"))
    store = ModelStore(modelled.settings.models_dir, client.serving.pool, clock)
    await store.follow()
    hidden.rename(file)
    await store.follow()
    assert store.current is not None
    assert store.current.version != outcome.version  # the one before goes on until it is tried again
    clock.advance(REFUSED_RETRY_S)
    await store.follow()
    assert store.current is not None
    assert store.current.version == outcome.version


async def test_activate_at_the_same_time_leaves_one_active_and_a_whole_history(stocked: World) -> None:
    keys = await stocked.keys()
    versions = [(await stocked.publish(make_model(keys, seed))).version for seed in range(3)]
    async with open_pool(stocked.settings.postgres_url) as pool:
        turns = itertools.islice(itertools.cycle(versions), 12)
        await asyncio.gather(*(registry.activate(pool, version, "test") for version in turns))
        active = await registry.active_version(pool)
    assert await stocked.sql("select count(*) from models where state = 'active'") == [(1,)]
    history = await stocked.sql("select version from model_activations order by id")
    assert history[-1] == (active,)
    assert all(a != b for a, b in itertools.pairwise(history))


async def test_swap_under_concurrent_requests_fails_none_and_never_mixes_versions(
    client: Client, modelled: World
) -> None:
    keys = await modelled.keys()
    await modelled.see("u:ann", keys[:5])
    request = RecommendRequest(user_id="ann", page_size=10)
    stop = asyncio.Event()
    answers: list[Any] = []

    async def call() -> None:
        while not stop.is_set():
            answers.append(await client.ranking.Recommend(request))

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    for seed in range(2, 2 + SWAP_COUNT):
        outcome = await modelled.publish(make_model(keys, seed), ndcg=0.1 + seed)
        await client.serving.engine.models.follow()
        model = client.serving.engine.models.current
        assert model is not None
        assert model.version == outcome.version
        answers.append(await client.ranking.Recommend(request))
    stop.set()
    await asyncio.gather(*callers)
    by_version: dict[str, set[tuple[tuple[str, float], ...]]] = {}
    for answer in answers:
        if answer.degradations:
            continue  # on a busy machine Redis may seem slow for a moment; such an answer has no profile to differ by
        parts = tuple((item.item_id, item.score) for item in answer.items)
        by_version.setdefault(answer.model_version, set()).add(parts)
    assert len(by_version) == SWAP_COUNT + 1
    assert all(len(found) == 1 for found in by_version.values())
    assert len(set.union(*by_version.values())) == SWAP_COUNT + 1


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "features"])
async def test_swap_when_bundle_is_damaged_is_refused_and_the_old_goes_on(
    client: Client, modelled: World, damage: str
) -> None:
    before = (await client.ranking.Recommend(RecommendRequest())).model_version
    refused = value(metrics.REGISTRY, "reco_model_refused_total", reason="bundle")
    model = make_model(await modelled.keys(), 2)
    outcome = await modelled.publish(model, ndcg=0.5)
    file = modelled.settings.models_dir / outcome.version / "factors.npy"
    data = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(data[:-100])
    elif damage == "altered":
        data[-1] ^= 1
        file.write_bytes(data)
    elif damage == "missing":
        file.unlink()
    else:
        outcome = await publish_with_other_features(modelled, model)
    for _ in range(2):  # it is counted once, not at every look
        await client.serving.engine.models.follow()
    answer = await client.ranking.Recommend(RecommendRequest())
    assert answer.model_version == before
    assert len(answer.items) == 20
    # The follower's own task may have been a second quicker; it counts once all the same, or once for each version.
    assert value(metrics.REGISTRY, "reco_model_refused_total", reason="bundle") > refused


async def publish_with_other_features(world: World, model: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.publish.FEATURES", ("of", "another", "engine"))
        return await world.publish(model, ndcg=0.9)


async def test_start_when_the_active_bundle_is_damaged_answers_with_the_last_model_that_did(
    modelled: World,
) -> None:
    async with modelled.serve() as client:
        before = (await client.ranking.Recommend(RecommendRequest())).model_version
    outcome = await modelled.publish(make_model(await modelled.keys(), 2), ndcg=0.5)
    (modelled.settings.models_dir / outcome.version / "gram.npy").unlink()

    async with modelled.serve() as client:
        answer = await client.ranking.Recommend(RecommendRequest())

    assert outcome.activated
    assert answer.model_version == before
    assert len(answer.items) == 20


async def test_activate_when_bundle_is_damaged_is_refused_before_anything_changes(
    client: Client, modelled: World
) -> None:
    outcome = await modelled.publish(make_model(await modelled.keys(), 2), ndcg=0.01)
    assert not outcome.activated
    (modelled.settings.models_dir / outcome.version / "gram.npy").unlink()
    code, info = await refusal(client.models.ActivateModel(ActivateModelRequest(version=outcome.version)))
    assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_REFUSED")
    assert info.metadata["description"].startswith("gram.npy")
    assert await modelled.sql(
        "select count(*) from models where state = 'active' and version = %s", outcome.version
    ) == [(0,)]


async def test_model_service_lists_describes_activates_and_rolls_back(
    client: Client, modelled: World
) -> None:
    first = (await client.ranking.Recommend(RecommendRequest())).model_version
    held = (await modelled.publish(make_model(await modelled.keys(), 2), ndcg=0.01)).version
    listed = (await client.models.ListModels(ListModelsRequest())).models
    assert {m.version: m.state for m in listed} == {
        held: ModelState.MODEL_STATE_HELD,
        first: ModelState.MODEL_STATE_ACTIVE,
    }
    page = await client.models.ListModels(ListModelsRequest(page_size=1))
    rest = await client.models.ListModels(ListModelsRequest(page_size=1, page_token=page.next_page_token))
    assert [page.models[0].version, rest.models[0].version] == [m.version for m in listed]
    assert rest.next_page_token == ""
    model = (await client.models.GetModel(GetModelRequest(version=first))).model
    assert model.loaded
    assert model.item_count == 60
    assert model.size_bytes > 1_000
    activated = await client.models.ActivateModel(ActivateModelRequest(version=held))
    assert activated.model.state == ModelState.MODEL_STATE_ACTIVE
    await client.serving.engine.models.follow()
    assert (await client.ranking.Recommend(RecommendRequest())).model_version == held
    back = await client.models.RollBackModel(RollBackModelRequest())
    assert back.model.version == first
    await client.serving.engine.models.follow()
    assert (await client.ranking.Recommend(RecommendRequest())).model_version == first
    code, info = await refusal(client.models.RollBackModel(RollBackModelRequest()))
    assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_EARLIER_MODEL")


@pytest.mark.parametrize("method", ["GetModel", "ActivateModel"])
async def test_model_service_when_version_is_unknown_is_not_found(client: Client, method: str) -> None:
    request = {"GetModel": GetModelRequest, "ActivateModel": ActivateModelRequest}[method](version="nope")
    code, info = await refusal(getattr(client.models, method)(request))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")


@pytest.mark.parametrize("filter_text", ["", "tags:even", "tags:even AND year > 2010"])
@pytest.mark.parametrize("shown_count_max", [5, 1_000])
@pytest.mark.parametrize("cells_items_min", [10, 50_000])
async def test_answers_when_catalogue_is_large_come_from_retrieval_and_are_the_exact_ones(
    stocked: World,
    monkeypatch: pytest.MonkeyPatch,
    filter_text: str,
    shown_count_max: int,
    cells_items_min: int,
) -> None:
    # What a filter leaves is searched by itself where it is little, else the search is wider.
    monkeypatch.setattr("retrieval.limits.SHOWN_ROWS_MAX", shown_count_max)
    monkeypatch.setattr("retrieval.limits.SHOWN_EXACT_ROWS_MAX", 10)
    monkeypatch.setattr("retrieval.limits.CELLS_ITEMS_MIN", cells_items_min)
    monkeypatch.setattr("retrieval.limits.HEAD_COUNTS", (0, 16))
    monkeypatch.setattr("retrieval.cells.CELL_ROW_COUNT", 8)
    keys = await stocked.keys()
    await stocked.publish(make_model(keys))
    await stocked.see("u:ann", keys[:5])
    request = RecommendRequest(user_id="ann", page_size=10, filter=filter_text)
    like = SimilarItemsRequest(item_id="i4", page_size=8, filter=filter_text, exclude_item_ids=["i2", "i52"])
    async with stocked.serve() as client:
        exact = await client.ranking.Recommend(request), await client.ranking.SimilarItems(like)
        monkeypatch.setattr("retrieval.limits.EXACT_ITEMS_MAX", 10)
        outcome = await stocked.publish(make_model(keys), ndcg=0.5)
        await client.serving.engine.models.follow()
        found = await client.ranking.Recommend(request), await client.ranking.SimilarItems(like)
    kind = open_bundle(stocked.settings.models_dir / outcome.version).manifest.params["retrieval"]["kind"]
    assert kind == ("head_cells" if cells_items_min < ITEM_COUNT else "head")
    for one, other in zip(exact, found, strict=True):
        assert other.model_version == outcome.version != one.model_version
        assert ids(one) == ids(other)
        assert not other.degradations


async def test_start_when_active_bundle_is_gone_answers_without_model(modelled: World) -> None:
    for path in modelled.settings.models_dir.iterdir():
        (path / "manifest.json").unlink()
    async with modelled.serve() as client:
        answer = await client.ranking.Recommend(RecommendRequest())
    assert answer.degradations == [Degradation.DEGRADATION_MODEL_MISSING]
    assert len(answer.items) == 20


async def test_swap_when_the_bundle_takes_more_memory_than_allowed_is_refused_and_the_old_goes_on(
    modelled: World,
) -> None:
    async with modelled.serve() as client:
        before = (await client.ranking.Recommend(RecommendRequest())).model_version
        outcome = await modelled.publish(make_model(await modelled.keys(), 2), ndcg=0.5)
        store = client.serving.engine.models
        store._bound = MemoryBound(bytes_max=1)
        await store.follow()
        assert (await client.ranking.Recommend(RecommendRequest())).model_version == before
        _, info = await refusal(client.models.ActivateModel(ActivateModelRequest(version=outcome.version)))
        assert info.reason == "MODEL_REFUSED"
        assert "RECO_MODEL_BYTES_MAX" in info.metadata["description"]


async def test_swap_when_done_lets_go_of_the_model_before(client: Client, modelled: World) -> None:
    keys = await modelled.keys()
    await modelled.see("u:ann", keys[:5])
    await client.ranking.Recommend(RecommendRequest(user_id="ann", filter="year >= 1990"))
    old = client.serving.engine.models.current
    assert old is not None
    gone, version = weakref.ref(old.arrays), old.version
    del old
    await modelled.publish(make_model(keys, 2), ndcg=0.5)
    await client.serving.engine.models.follow()
    answer = await client.ranking.Recommend(RecommendRequest(user_id="ann", filter="year >= 1990"))
    assert answer.model_version != version
    gc.collect()
    assert gone() is None


async def test_publish_when_there_are_many_bundles_removes_old_ones_but_not_what_going_back_reaches(
    stocked: World,
) -> None:
    keys = await stocked.keys()
    kept = stocked.settings.model_keep_count
    versions = [(await stocked.publish(make_model(keys, 0), ndcg=0.5)).version]
    held = [(await stocked.publish(make_model(keys, seed), ndcg=0.1)).version for seed in range(1, kept + 3)]
    folders = {path.name for path in stocked.settings.models_dir.iterdir()}
    assert folders == {*versions, *held[-kept:]}
    async with stocked.serve() as client:
        _, info = await refusal(client.models.ActivateModel(ActivateModelRequest(version=held[0])))
        assert info.reason == "MODEL_REFUSED"
        assert (await client.ranking.Recommend(RecommendRequest())).model_version == versions[0]
