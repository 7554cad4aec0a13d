"""The request's stages: what they leave out, where they fall back, and that nothing stays behind in the workspace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiles.signals import Signal
from tests.unit.training.synthetic import BASE, RANKER, synthetic_dataset
from training.fit import fit_base
from training.ranker import fit_ranker
from vectorizer import ModelArrays, Workspace, gather, prepare, score, vectorize, warm_up
from vectorizer.features import FEATURES, bucket_of
from vectorizer.limits import BLOCKED_COUNT_MAX, CANDIDATE_LIMIT, RING_EVENT_COUNT_MAX, SESSION_GAP_S
from vectorizer.model import ModelError
from vectorizer.request import features
from vectorizer.sources import PERSONAL, POPULAR, SIMILAR, TRANSITION

NOW = 9_000_000


@pytest.fixture(scope="module")
def model() -> ModelArrays:
    """A base model of 200 items."""
    return fit_base(synthetic_dataset(100, item_count=200), BASE)


@pytest.fixture(scope="module")
def ranked(model: ModelArrays) -> ModelArrays:
    """The same with a ranker."""
    return model.with_forest(*fit_ranker(synthetic_dataset(100, item_count=200), BASE, RANKER))


def _ring(rows, code=Signal.CLICK, step=100):
    times = NOW - step * np.arange(len(rows), 0, -1)
    return (
        np.array(rows, dtype=np.int32),
        np.full(len(rows), int(code), dtype=np.uint8),
        times.astype(np.uint32),
    )


def test_vectorize_when_ring_is_empty_or_unknown_gives_zeros(model):
    workspace = Workspace(model)
    for rows in ([], [-1, -1]):
        assert not vectorize(*_ring(rows), model, workspace).any()


def test_vectorize_when_only_disliked_gives_zeros(model):
    assert not vectorize(*_ring([1, 2], Signal.DISLIKE), model, Workspace(model)).any()


def test_vectorize_when_ring_is_longer_than_the_limit_looks_at_the_newest(model):
    workspace = Workspace(model)
    rows = np.arange(RING_EVENT_COUNT_MAX + 30) % model.item_count
    whole = vectorize(*_ring(rows), model, workspace)
    newest = vectorize(*_ring(rows[-RING_EVENT_COUNT_MAX:]), model, workspace)
    assert whole.tobytes() == newest.tobytes()


def test_gather_when_user_is_unknown_gives_the_popular_in_order(model):
    workspace = Workspace(model)
    ring = _ring([])
    found = gather(*ring, vectorize(*ring, model, workspace), model, workspace)
    assert found.rows.tolist() == model.popularity_order[:CANDIDATE_LIMIT].tolist()
    assert (found.sources == POPULAR).all()
    scores = score(found.rows, *ring, NOW, np.zeros(model.factor_count, dtype=np.float32), model, workspace)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_gather_when_items_are_seen_or_excluded_leaves_them_out(model):
    workspace = Workspace(model)
    ring = _ring([3, 7, -1, 11])
    vector = vectorize(*ring, model, workspace)
    best = gather(*ring, vector, model, workspace).rows[:5]
    again = gather(*ring, vector, model, workspace, blocked_rows=best)
    assert not set(again.rows) & {3, 7, 11, *best.tolist()}
    assert len(set(again.rows.tolist())) == len(again.rows)


@pytest.mark.parametrize("blocked_count", [3, BLOCKED_COUNT_MAX + 1])
def test_gather_when_rows_are_hidden_or_blocked_leaves_them_out_and_the_mask_as_it_was(model, blocked_count):
    workspace = Workspace(model)
    ring = _ring([3, -1, 11])
    vector = vectorize(*ring, model, workspace)
    best = gather(*ring, vector, model, workspace).rows
    hidden = np.zeros(model.item_count, dtype=np.uint8)
    hidden[best[:40]] = 1
    hidden.setflags(write=False)
    blocked = np.resize(np.append(best[40:50], -1), blocked_count).astype(np.int32)
    found = gather(*ring, vector, model, workspace, hidden, blocked).rows
    barred = {3, 11, *best[:40].tolist(), *blocked.tolist()}
    assert set(found.tolist()) == set(range(model.item_count)) - barred
    assert np.flatnonzero(hidden).tolist() == sorted(best[:40].tolist())


@pytest.mark.parametrize("shown_count", [3, 60, 200])
def test_gather_when_told_which_popular_rows_are_shown_answers_the_same(ranked, shown_count):
    shown = np.random.default_rng(shown_count).permutation(ranked.item_count)[:shown_count]
    hidden = np.ones(ranked.item_count, dtype=np.uint8)
    hidden[shown] = 0
    popular = ranked.popularity_order[hidden[ranked.popularity_order] == 0]
    for ring in (_ring([1, 5, 9]), _ring([])):
        vector = vectorize(*ring, ranked, Workspace(ranked))
        whole = gather(*ring, vector, ranked, Workspace(ranked), hidden)
        told = gather(*ring, vector, ranked, Workspace(ranked), hidden, popular_rows=popular)
        assert told.rows.tolist() == whole.rows.tolist()
        assert told.sources.tolist() == whole.sources.tolist()


def test_workspace_when_catalogue_grows_stays_as_large(model):
    def total(of):
        return sum(v.nbytes for v in vars(Workspace(of)).values() if isinstance(v, np.ndarray))

    arrays = model.to_arrays()
    by_item = {k: v for k, v in arrays.items() if len(v) == model.item_count}
    doubled = ModelArrays.from_arrays(
        arrays | {k: np.concatenate([v, v]) for k, v in by_item.items()}, model.params
    )
    assert doubled.item_count == 2 * model.item_count
    assert total(doubled) == total(model)


def test_gather_when_sources_agree_marks_every_one(model):
    workspace = Workspace(model)
    ring = _ring([3, 7, 11])
    found = gather(*ring, vectorize(*ring, model, workspace), model, workspace)
    marked = np.bitwise_or.reduce(found.sources)
    assert marked & PERSONAL
    assert marked & TRANSITION
    assert marked & SIMILAR
    assert (found.sources & (found.sources - 1) > 0).any()


def test_gather_when_an_index_answers_takes_its_rows(model):
    workspace = Workspace(model)
    ring = _ring([3])
    vector = vectorize(*ring, model, workspace)
    given = np.array([40, 41], dtype=np.int32)
    found = gather(*ring, vector, model, workspace, personal_rows=given)
    assert found.rows[found.sources & PERSONAL > 0].tolist() == [40, 41]


def test_gather_when_another_user_came_before_is_unaffected(ranked):
    shared = Workspace(ranked)
    results = []
    for workspace in (shared, shared, Workspace(ranked)):
        ring = _ring([5, 9, 13])
        vector = vectorize(*ring, ranked, workspace)
        found = gather(*ring, vector, ranked, workspace)
        scores = score(found.rows, *ring, NOW, vector, ranked, workspace)
        results.append((found.rows.tobytes(), found.sources.tobytes(), scores.tobytes()))
        other = _ring([100, 120, 140])
        gather(*other, vectorize(*other, ranked, shared), ranked, shared)
    assert results[0] == results[1] == results[2]


def test_score_when_caller_brings_candidates_equals_score_after_gather(model):
    workspace = Workspace(model)
    ring = _ring([5, 9, 13])
    vector = vectorize(*ring, model, workspace)
    rows = gather(*ring, vector, model, workspace).rows
    gathered = features(rows, *ring, NOW, vector, model, workspace).copy()
    fresh = Workspace(model)
    prepare(ring[0], ring[1], model, fresh)
    assert features(rows, *ring, NOW, vector, model, fresh).tobytes() == gathered.tobytes()


def test_score_when_there_is_no_ranker_is_the_inner_product(model):
    workspace = Workspace(model)
    ring = _ring([5, 9])
    vector = vectorize(*ring, model, workspace)
    rows = np.arange(20, dtype=np.int32)
    assert np.allclose(score(rows, *ring, NOW, vector, model, workspace), model.factors[:20] @ vector)


def test_score_when_one_event_is_added_changes(ranked):
    workspace = Workspace(ranked)
    rows = np.arange(60, dtype=np.int32)
    scores = []
    for events in ([5, 9], [5, 9, 14]):
        ring = _ring(events)
        vector = vectorize(*ring, ranked, workspace)
        prepare(ring[0], ring[1], ranked, workspace)
        scores.append(score(rows, *ring, NOW, vector, ranked, workspace))
    assert not np.array_equal(*scores)


def _feature(name, matrix):
    return matrix[FEATURES.index(name)]


def test_features_when_ring_is_known_hold_the_plain_values(model):
    workspace = Workspace(model)
    ring = _ring([4, 8], Signal.RATING_HIGH)
    vector = vectorize(*ring, model, workspace)
    rows = np.array([12, 13], dtype=np.int32)
    prepare(ring[0], ring[1], model, workspace)
    matrix = features(rows, *ring, NOW, vector, model, workspace)
    personal = model.factors[rows] @ vector
    last = model.factors[8]
    cosines = model.factors[rows] @ last / (model.factor_norms[rows] * model.factor_norms[8])
    mean_year = (model.released[8] + np.exp(-0.1) * model.released[4]) / (1 + np.exp(-0.1))
    assert np.allclose(_feature("personal", matrix), personal, rtol=1e-4)
    assert np.allclose(_feature("personal_behind", matrix), personal - personal.max(), atol=1e-5)
    assert np.allclose(_feature("cosine_last", matrix), cosines, atol=1e-5)
    assert np.allclose(_feature("popularity", matrix), np.log(model.popularity[rows] + 1e-6), atol=1e-5)
    assert np.allclose(_feature("released_gap", matrix), model.released[rows] - mean_year, atol=1e-2)
    assert _feature("category_slow", matrix).tolist() == [1.0, 0.0]  # rows 4, 8 and 12 share a category
    assert _feature("category_liked", matrix).tolist() == [1.0, 0.0]
    assert _feature("ring_count", matrix).tolist() == [2, 2]
    assert _feature("session_count", matrix).tolist() == [2, 2]
    assert np.allclose(_feature("idle", matrix), np.log1p(100))
    assert _feature("user_liking", matrix).tolist() == [1, 1]


@pytest.mark.parametrize(("gap_s", "expected"), [(SESSION_GAP_S, 1), (SESSION_GAP_S + 1, 0)])
def test_features_when_event_is_as_old_as_a_visit_may_be_count_it(model, gap_s, expected):
    workspace = Workspace(model)
    ring = _ring([4], step=gap_s)
    prepare(ring[0], ring[1], model, workspace)
    matrix = features(
        np.array([9], dtype=np.int32), *ring, NOW, vectorize(*ring, model, workspace), model, workspace
    )
    assert _feature("session_count", matrix).tolist() == [expected]


@pytest.mark.parametrize(("now", "expected"), [(-5, 0), (99, 0), (109, 0), (110, 1), (149, 4), (9_999, 5)])
def test_bucket_of_when_now_moves_counts_whole_buckets(now, expected):
    assert bucket_of(now, 100, 10, 5) == expected


def test_model_arrays_when_an_array_is_missing_or_wrong_names_it(model):
    arrays = model.to_arrays()
    with pytest.raises(ModelError, match="lacks the arrays gram"):
        ModelArrays.from_arrays({k: v for k, v in arrays.items() if k != "gram"}, {})
    with pytest.raises(ModelError, match="factors is float64"):
        replace(model, factors=model.factors.astype(np.float64))
    with pytest.raises(ModelError, match="popularity has 3 rows"):
        replace(model, popularity=model.popularity[:3])


def test_warm_up_when_called_twice_does_no_harm():
    warm_up()
    warm_up()
