"""The kernels against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest

from tests.oracles import vectorizer_twins as twins
from training.config import RankerConfig
from training.ranker import fit_trees, forest_arrays
from training.rows import TrainingRows
from vectorizer import sources
from vectorizer.features import FEATURE_COUNT
from vectorizer.foldin import event_weights, fold_in
from vectorizer.forest import score_forest
from vectorizer.signals import SIGNAL_WEIGHTS

FOLD_IN_ERROR_MAX = (
    2e-4  # relative to the vector's largest entry: float32 Cholesky of a well-conditioned system
)
FOREST_ERROR_MAX = 2e-6  # absolute: leaves are rounded to float32


def _fold(rows, weights, factors, regularization):
    d = factors.shape[1]
    gram = (factors.T @ factors + regularization * np.eye(d)).astype(np.float32)
    vector = np.empty(d, dtype=np.float32)
    used = fold_in(rows, weights, factors, gram, np.empty((d, d), dtype=np.float32), vector)
    return used, vector


@pytest.mark.parametrize(("factor_count", "event_count"), [(2, 1), (16, 5), (64, 10), (64, 64)])
def test_fold_in_when_events_are_known_equals_dense_solve(factor_count, event_count):
    rng = np.random.default_rng(factor_count + event_count)
    factors = rng.normal(0, 0.3, (200, factor_count)).astype(np.float32)
    rows = rng.integers(-1, 200, event_count).astype(np.int32)
    rows[0] = 3
    weights = rng.uniform(0.1, 60, event_count).astype(np.float32)
    used, vector = _fold(rows, weights, factors, 10.0)
    expected = twins.fold_in(rows, weights, factors, 10.0)
    assert used == np.count_nonzero(rows >= 0)
    assert np.abs(vector - expected).max() <= FOLD_IN_ERROR_MAX * np.abs(expected).max()


@pytest.mark.parametrize("rows", [[], [-1, -1]])
def test_fold_in_when_no_event_is_known_gives_zeros(rows):
    rows = np.array(rows, dtype=np.int32)
    used, vector = _fold(rows, np.ones(len(rows), dtype=np.float32), np.ones((3, 4), dtype=np.float32), 1.0)
    assert used == 0
    assert not vector.any()


def test_event_weights_when_codes_differ_follow_type_and_recency():
    codes = np.arange(16, dtype=np.uint8)
    weights = np.empty(16, dtype=np.float32)
    event_weights(codes, SIGNAL_WEIGHTS, np.float32(60), np.float32(0.3), weights)
    assert np.allclose(weights, twins.event_weights(codes, SIGNAL_WEIGHTS, 60, 0.3), rtol=1e-5)


@pytest.mark.parametrize("limit", [1, 7, 100, 300])
def test_best_personal_when_scores_tie_keeps_lower_rows(limit):
    rng = np.random.default_rng(limit)
    factors = rng.integers(-2, 3, (200, 4)).astype(np.float32)  # small integers: many exact ties
    vector = np.array([1, 2, -1, 1], dtype=np.float32)
    excluded = (rng.random(200) < 0.3).astype(np.uint8)
    rows = np.empty(limit, dtype=np.int32)
    size = sources.best_personal(vector, factors, excluded, np.empty(limit, dtype=np.float32), rows)
    assert rows[:size].tolist() == twins.best(factors @ vector, limit, excluded)


def _lists(rng, n, k):
    rows = np.array([rng.choice(n, k, replace=False) for _ in range(n)], dtype=np.int32)
    weights = rng.uniform(0.1, 1, (n, k)).astype(np.float32)
    shorter = np.arange(k) >= rng.integers(0, k + 1, n)[:, None]
    rows[shorter], weights[shorter] = -1, 0
    return rows, weights


def test_accumulate_when_events_repeat_or_are_unknown_equals_plain_sum():
    rng = np.random.default_rng(3)
    transitions, neighbours = _lists(rng, 50, 6), _lists(rng, 50, 9)
    rows = np.array([4, 4, -1, 9, 30, -1, 7], dtype=np.int32)
    likings = rng.uniform(-1, 1, 7).astype(np.float32)
    sums, touched = np.zeros((50, 8), dtype=np.float32), np.zeros(50, dtype=np.int32)
    count = sources.accumulate(rows, likings, *transitions, *neighbours, sums, touched)
    decays = (sources.DECAY_FAST, sources.DECAY_SLOW, sources.DECAY_LONG)
    expected = twins.accumulate(rows, likings, *transitions, *neighbours, decays)
    assert np.allclose(sums, expected, atol=1e-5)
    assert sorted(touched[:count]) == np.nonzero(expected.any(axis=1))[0].tolist()
    sources.clear(sums, touched, count)
    assert not sums.any()


def test_best_accumulated_when_few_are_touched_orders_them_all():
    sums = np.zeros((10, 8), dtype=np.float32)
    sums[[2, 5, 7], 2] = [1.0, 3.0, 1.0]
    touched, excluded = np.array([7, 2, 5], dtype=np.int32), np.zeros(10, dtype=np.uint8)
    rows = np.empty(5, dtype=np.int32)
    size = sources.best_accumulated(sums, touched, 3, 2, excluded, np.empty(5, dtype=np.float32), rows)
    assert rows[:size].tolist() == [5, 2, 7]


def _ranking_rows(rng, groups=60, size=12):
    matrix = rng.normal(size=(groups * size, FEATURE_COUNT)).astype(np.float32)
    labels = np.zeros(groups * size, dtype=np.float32)
    best = (matrix[:, 0] + matrix[:, 3]).reshape(groups, size).argmax(axis=1)
    labels[np.arange(groups) * size + best] = 1
    return TrainingRows(
        matrix, labels, np.repeat(np.arange(groups), size), np.zeros(groups * size, dtype=np.uint32)
    )


@pytest.mark.parametrize("loss", ["YetiRank", "QuerySoftMax"])
def test_score_forest_when_catboost_fitted_it_agrees_with_catboost_and_twin(loss):
    rows = _ranking_rows(np.random.default_rng(5))
    model = fit_trees(rows, RankerConfig(loss=loss, tree_count=60, thread_count=1))
    forest, params = forest_arrays(model)
    features = np.ascontiguousarray(rows.features.T)
    count = features.shape[1]
    scores, leaf = np.empty(count), np.empty(count, dtype=np.int32)
    arrays = [forest[name] for name in ("forest_features", "forest_borders", "forest_leaves")]
    score_forest(features, *arrays, params["forest_bias"], leaf, scores)
    assert np.abs(scores - model.predict(rows.features)).max() <= FOREST_ERROR_MAX
    assert np.abs(scores - twins.forest(features, *arrays, params["forest_bias"])).max() <= 1e-9
    assert np.ptp(scores) > 0.1  # it says something


def test_score_forest_when_a_feature_lies_on_the_border_is_not_above_it():
    features = np.array([[0.0, 1.0, 2.0]], dtype=np.float32)
    tested, borders = np.zeros((1, 1), dtype=np.int32), np.ones((1, 1), dtype=np.float32)
    leaves, scores = np.array([[5, 7]], dtype=np.float32), np.empty(3)
    score_forest(features, tested, borders, leaves, 0.0, np.empty(3, dtype=np.int32), scores)
    assert scores.tolist() == twins.forest(features, tested, borders, leaves, 0.0).tolist() == [5, 5, 7]
