"""The kernels against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest

from tests.oracles import vectorizer_twins as twins
from training.config import RankerConfig
from training.ranker import fit_trees, forest_arrays
from training.rows import TrainingRows
from vectorizer import ModelArrays, sources, table
from vectorizer.features import FEATURE_COUNT, FEATURES, QUERY_COUNT, fill_features, take_logs
from vectorizer.foldin import event_weights, fold_in
from vectorizer.forest import score_forest, score_forest_plain
from vectorizer.limits import (
    CANDIDATE_LIMIT,
    KEY_COUNT_MAX,
    LANE_COUNT,
    PERSONAL_QUOTA,
    SIMILAR_QUOTA,
    TABLE_ROW_COUNT_MAX,
    TRANSITION_QUOTA,
)
from vectorizer.model import empty_forest
from vectorizer.signals import SIGNAL_WEIGHTS

FOLD_IN_ERROR_MAX = (
    2e-4  # relative to the vector's largest entry: float32 Cholesky of a well-conditioned system
)
FEATURE_ERROR_MAX = 5e-6  # relative to the larger of 1 and the value: float32 of it, and sums of 100 products
LOG_ERROR_MAX = 2e-7  # likewise
FOREST_ERROR_MAX = 2e-6  # absolute: leaves are rounded to float32


def _fold(rows, weights, factors, regularization):
    d = factors.shape[1]
    gram = (factors.T @ factors + regularization * np.eye(d)).astype(np.float32)
    p = -(-d // LANE_COUNT) * LANE_COUNT
    weights = np.array([weights, np.sqrt(weights)], dtype=np.float32)
    vectors = np.full((2, p), np.nan, dtype=np.float32)
    scratch = [np.full(size, np.nan, dtype=np.float32) for size in (p * p, p, p)]
    used = fold_in(rows, weights, factors, gram, *scratch, vectors)
    assert not vectors[:, d:].any()  # the padding
    return used, vectors[:, :d]


@pytest.mark.parametrize(
    ("factor_count", "event_count"), [(2, 1), (16, 5), (17, 9), (48, 20), (64, 10), (64, 64), (100, 12)]
)
def test_fold_in_when_events_are_known_equals_dense_solve(factor_count, event_count):
    rng = np.random.default_rng(factor_count + event_count)
    factors = rng.normal(0, 0.3, (200, factor_count)).astype(np.float32)
    rows = rng.integers(-1, 200, event_count).astype(np.int32)
    rows[0] = 3
    weights = rng.uniform(0.1, 60, event_count).astype(np.float32)
    used, vectors = _fold(rows, weights, factors, 10.0)
    assert used == np.count_nonzero(rows >= 0)
    for vector, weighed in zip(vectors, (weights, np.sqrt(weights)), strict=True):
        expected = twins.fold_in(rows, weighed, factors, 10.0)
        assert np.abs(vector - expected).max() <= FOLD_IN_ERROR_MAX * np.abs(expected).max()


def test_fold_in_when_most_events_hardly_weigh_equals_dense_solve():
    rng = np.random.default_rng(2)
    factors = rng.normal(0, 0.3, (200, 20)).astype(np.float32)
    rows = rng.integers(0, 200, 64).astype(np.int32)
    weights = (60 * np.exp(-np.arange(64)[::-1])).astype(np.float32)
    _, vectors = _fold(rows, weights, factors, 10.0)
    expected = twins.fold_in(rows, weights, factors, 10.0)
    assert np.abs(vectors[0] - expected).max() <= FOLD_IN_ERROR_MAX * np.abs(expected).max()


@pytest.mark.parametrize("rows", [[], [-1, -1]])
def test_fold_in_when_no_event_is_known_gives_zeros(rows):
    rows = np.array(rows, dtype=np.int32)
    used, vectors = _fold(rows, np.ones(len(rows), dtype=np.float32), np.ones((3, 4), dtype=np.float32), 1.0)
    assert used == 0
    assert not vectors.any()


def test_event_weights_when_codes_differ_follow_type_and_recency():
    codes = np.arange(16, dtype=np.uint8)
    decays = np.array([0.3, 1.0], dtype=np.float32)
    weights = np.empty((2, 16), dtype=np.float32)
    event_weights(codes, SIGNAL_WEIGHTS, np.float32(60), decays, weights)
    for decay, row in zip(decays, weights, strict=True):
        assert np.allclose(row, twins.event_weights(codes, SIGNAL_WEIGHTS, 60, decay), rtol=1e-5)


class _Table:
    """The scratch arrays of a request's table, and what they hold."""

    def __init__(self):
        self.slots, self.state = np.zeros((table.SLOT_COUNT, 2), dtype=np.int32), np.zeros(2, dtype=np.int32)
        self.rows = np.full(TABLE_ROW_COUNT_MAX, 9, dtype=np.int32)
        self.sums = np.full((TABLE_ROW_COUNT_MAX, 8), np.nan, dtype=np.float32)
        self.bits = np.full(TABLE_ROW_COUNT_MAX, 255, dtype=np.uint8)
        self.arrays = (self.slots, self.state, self.rows, self.sums, self.bits)
        table.begin(self.slots, self.state)

    def add(self, row):
        return table.add(*self.arrays, row)

    def find(self, row):
        return table.find(self.slots, self.state, row)

    def block(self, rows):
        sources.block(np.array(rows, dtype=np.int32), *self.arrays)

    def dense(self, n):
        sums = np.zeros((n, 8), dtype=np.float32)
        count = self.state[table.SIZE]
        sums[self.rows[:count]] = self.sums[:count]
        return sums


def test_table_when_rows_collide_and_wrap_around_keeps_them_apart():
    # Rows whose search begins at the last two slots: the third and later ones go on at the first slot.
    rows = [row for row in range(400_000) if table.slot_of(row) >= table.SLOT_COUNT - 2][:12]
    assert len(rows) == 12
    known = _Table()
    assert [known.add(row) for row in rows] == list(range(12))
    assert [known.add(row) for row in rows[::-1]] == list(range(12))[::-1]
    assert [known.find(row) for row in rows] == list(range(12))
    assert known.rows[:12].tolist() == rows
    assert known.slots[:9, 1].all()  # went round
    assert not known.sums[:12].any()
    assert not known.bits[:12].any()


@pytest.mark.parametrize("seed", range(5))
def test_table_when_full_to_its_limit_over_many_requests_equals_a_dict(seed):
    rng = np.random.default_rng(seed)
    known = _Table()
    for count in (TABLE_ROW_COUNT_MAX, 3, 0, 5_000, TABLE_ROW_COUNT_MAX):
        table.begin(known.slots, known.state)
        rows = rng.choice(2**31 - 1, count, replace=False) if seed else np.arange(count) * table.SLOT_COUNT
        rows = (rows % (2**31 - 1)).tolist()
        expected = {}
        for row in rows:
            assert known.add(row) == expected.setdefault(row, len(expected))
        assert all(known.find(row) == place for row, place in expected.items())
        others = rng.integers(0, 2**31 - 1, 2_000).tolist()
        assert all(known.find(row) == expected.get(row, -1) for row in others)


def test_table_when_stamps_run_out_starts_over():
    known = _Table()
    known.add(7)
    known.state[table.BASE] = table.STAMP_MAX
    table.begin(known.slots, known.state)
    assert known.state.tolist() == [1, 0]
    assert known.find(7) == -1
    assert known.add(7) == 0


@pytest.mark.parametrize("limit", [1, 7, 100, 300])
def test_best_personal_when_scores_tie_keeps_lower_rows(limit):
    rng = np.random.default_rng(limit)
    factors = rng.integers(-2, 3, (200, 4)).astype(np.float32)  # small integers: many exact ties
    vector = np.array([1, 2, -1, 1], dtype=np.float32)
    hidden, blocked = (rng.random(200) < 0.3).astype(np.uint8), (rng.random(200) < 0.1).astype(np.uint8)
    known = _Table()
    known.block(np.flatnonzero(blocked))
    rows = np.empty(limit, dtype=np.int32)
    keys, spare = np.empty(limit + 5, dtype=np.uint64), np.empty(limit, dtype=np.uint64)
    scratch = (known.slots, known.state, known.bits, keys, spare, rows)
    size = sources.best_personal(vector, factors, hidden, *scratch)
    assert rows[:size].tolist() == twins.best(factors @ vector, limit, hidden | blocked)


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
    known = _Table()
    sources.accumulate(rows, likings, *transitions, *neighbours, *known.arrays)
    decays = (sources.DECAY_FAST, sources.DECAY_SLOW, sources.DECAY_LONG)
    expected = twins.accumulate(rows, likings, *transitions, *neighbours, decays)
    assert np.allclose(known.dense(50), expected, atol=1e-5)
    touched = known.rows[: known.state[table.SIZE]]
    assert sorted(touched) == np.nonzero(expected.any(axis=1))[0].tolist()


@pytest.mark.parametrize("limit", [1, 35, 200])
@pytest.mark.parametrize("row_count", [0, 30, 201, 5_000])
def test_best_accumulated_when_sums_tie_keeps_lower_rows_of_those_allowed(limit, row_count):
    rng = np.random.default_rng(limit + row_count)
    known, n = _Table(), 6_000
    for place, row in enumerate(rng.permutation(n)[:row_count].tolist()):
        known.add(row)
        known.sums[place] = rng.integers(-2, 12, 8)  # small integers: many exact ties, some not positive
    hidden = (rng.random(n) < 0.2).astype(np.uint8)
    blocked = known.rows[: known.state[table.SIZE] : 7].copy()
    known.block(blocked)
    out, sums = hidden.copy(), known.dense(n)
    out[blocked] = 1
    keys, spare = np.empty(KEY_COUNT_MAX, dtype=np.uint64), np.empty(limit, dtype=np.uint64)
    for column in (2, 5):
        rows = np.empty(limit, dtype=np.int32)
        arrays = (hidden, known.state, known.rows, known.sums, known.bits)
        size = sources.best_accumulated(column, *arrays, keys, spare, rows)
        best = [row for row in twins.best(sums[:, column], n, out) if sums[row, column] > 0]
        assert rows[:size].tolist() == best[:limit]


@pytest.mark.parametrize(("event_count", "barred"), [(0, 0.2), (1, 0.0), (12, 0.3), (40, 0.9)])
def test_unite_when_quotas_fill_up_equals_plain_union(event_count, barred):
    rng = np.random.default_rng(event_count)
    n = 600
    lists = (*_lists(rng, n, 30), *_lists(rng, n, 20))
    ring = rng.integers(-1, n, event_count).astype(np.int32)
    known = _Table()
    sources.accumulate(ring, np.ones(event_count, dtype=np.float32), *lists, *known.arrays)
    sums = known.dense(n)
    hidden = (rng.random(n) < barred).astype(np.uint8)
    blocked = rng.integers(-1, n, 30)
    known.block(blocked)
    personal = rng.permutation(n)[: 200 if event_count else 0].astype(np.int32)
    popular = rng.permutation(n).astype(np.int32)
    rows, marks = np.zeros(CANDIDATE_LIMIT, dtype=np.int32), np.zeros(CANDIDATE_LIMIT, dtype=np.uint8)
    scratch = (
        np.zeros(KEY_COUNT_MAX, dtype=np.uint64),
        np.zeros(CANDIDATE_LIMIT, dtype=np.uint64),
        np.zeros(CANDIDATE_LIMIT, dtype=np.int32),
    )
    places = np.zeros(CANDIDATE_LIMIT, dtype=np.int32)
    quotas = (PERSONAL_QUOTA, TRANSITION_QUOTA, SIMILAR_QUOTA)
    size = sources.unite(
        np.array(quotas, dtype=np.int32),
        personal,
        popular,
        hidden,
        *known.arrays,
        *scratch,
        rows,
        places,
        marks,
    )
    out = hidden.copy()
    out[blocked[blocked >= 0]] = 1
    expected = twins.unite(personal, sums, popular, out, quotas, CANDIDATE_LIMIT)
    assert list(zip(rows[:size].tolist(), marks[:size].tolist(), strict=True)) == expected


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


@pytest.mark.parametrize("count", [1, 15, 16, 17, 63, 64, 65, 200, 1_024])
@pytest.mark.parametrize("depth", [1, 3, 4, 5, 6, 7])
def test_score_forest_when_depth_and_count_vary_equals_plain_loop_and_twin(depth, count):
    rng = np.random.default_rng(100 * depth + count)
    features = rng.integers(-3, 4, (9, count)).astype(np.float32)  # many on a border
    tested = rng.integers(0, 9, (30, depth)).astype(np.int32)
    borders = rng.integers(-3, 4, (30, depth)).astype(np.float32)
    leaves = rng.normal(size=(30, 2**depth)).astype(np.float32)
    fast, plain, leaf = np.full(count, np.nan), np.full(count, np.nan), np.empty(count, dtype=np.int32)
    score_forest(features, tested, borders, leaves, 0.25, leaf, fast)
    score_forest_plain(features, tested, borders, leaves, 0.25, leaf, plain)
    assert fast.tobytes() == plain.tobytes()
    assert np.abs(fast - twins.forest(features, tested, borders, leaves, 0.25)).max() <= 1e-12


def test_take_logs_when_numbers_span_all_sizes_equals_log():
    rng = np.random.default_rng(8)
    ends = np.array([1, 0.5, 2, np.sqrt(0.5), np.nextafter(np.float32(1), np.float32(0)), 1e-37, 3e38])
    values = np.concatenate([ends, np.exp(rng.uniform(-85, 85, 20_000)), rng.uniform(0.5, 2, 20_000)])
    values = values.astype(np.float32)
    expected = np.log(values.astype(np.float64))
    take_logs(values)
    assert (np.abs(values - expected) / np.maximum(np.abs(expected), 1)).max() <= LOG_ERROR_MAX


def _model(rng, n, d, sparse):
    """A model in which a share `sparse` of the items lacks each of: factors, a year, categories, lists, events."""

    def lacking():
        return rng.random(n) < sparse

    factors = rng.normal(0, 0.3, (n, d)).astype(np.float32)
    factors[lacking()] = 0
    released = rng.integers(1950, 2024, n).astype(np.float32)
    released[lacking()] = 0
    categories = rng.integers(0, 2**63, n).astype(np.uint64) << np.uint64(1)
    categories &= rng.integers(0, 2**63, n).astype(np.uint64) << np.uint64(1)
    categories[lacking()] = 0
    popularity = rng.random(n).astype(np.float32) / n
    popularity[lacking()] = 0
    counts = np.cumsum(rng.poisson(2, (n, 7)), axis=1).astype(np.float32)
    counts[lacking()] = 0
    lists = [_lists(rng, n, 12) for _ in range(2)]
    for rows, weights in lists:
        empty = lacking()
        rows[empty], weights[empty] = -1, 0
    return ModelArrays(
        item_keys=np.arange(n, dtype=np.int32), popularity=popularity,
        popularity_order=np.argsort(-popularity).astype(np.int32), factors=factors,
        factor_norms=np.linalg.norm(factors, axis=1).astype(np.float32), gram=np.eye(d, dtype=np.float32),
        transitions=lists[0][0], transition_weights=lists[0][1], neighbours=lists[1][0],
        neighbour_weights=lists[1][1], categories=categories, released=released,
        liking=rng.uniform(-1, 1, n).astype(np.float32), first_times=rng.integers(0, 4_000_000, n).astype(np.uint32),
        bucket_counts=counts, bucket_totals=counts.sum(axis=0),
        params={"bucket_start_s": 1_000_000, "bucket_width_s": 604_800}, **empty_forest(),
    )  # fmt: skip


@pytest.mark.parametrize("sparse", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("factor_count", [5, 48, 100])
@pytest.mark.parametrize("event_count", [0, 1, 4, 64])
def test_fill_features_when_values_are_missing_equals_plain_definitions(event_count, factor_count, sparse):
    rng = np.random.default_rng(1_000 * event_count + 10 * factor_count + int(10 * sparse))
    n, k, p = 90, 37, -(-factor_count // LANE_COUNT) * LANE_COUNT
    model = _model(rng, n, factor_count, sparse)
    rows = rng.integers(-1, n, event_count).astype(np.int32)
    rows[: event_count // 2 : 3] = -1
    likings = rng.uniform(-1, 1, event_count).astype(np.float32)
    now = int(rng.choice([900_000, 1_700_000, 3_000_000, 9_000_000]))
    times = np.sort(now - rng.integers(0, 4_000, event_count)).astype(np.uint32)
    vectors = rng.normal(0, 1, (3, factor_count)).astype(np.float32)
    candidates = rng.permutation(n)[:k].astype(np.int32)
    known = _Table()
    lists = (model.transitions, model.transition_weights, model.neighbours, model.neighbour_weights)
    sources.accumulate(rows, likings, *lists, *known.arrays)
    scratch = [np.full(size, np.nan, dtype=np.float32) for size in (QUERY_COUNT * p, QUERY_COUNT, p)]
    out = np.full((FEATURE_COUNT, k), np.nan, dtype=np.float32)
    facts = (model.factors, model.factor_norms, model.popularity, model.bucket_counts, model.bucket_totals)
    more = (model.first_times, model.liking, model.released, model.categories)
    events = (candidates, rows, likings, times, now, *vectors, known.slots, known.state, known.sums)
    fill_features(*events, *facts, 1_000_000, 604_800, *more, *scratch, out)
    expected = twins.features(candidates, rows, likings, times, now, vectors, known.dense(n), model)
    error = np.abs(out - expected) / np.maximum(np.abs(expected), 1)
    assert dict(zip(FEATURES, error.max(axis=1).tolist(), strict=True)) == pytest.approx(
        dict.fromkeys(FEATURES, 0), abs=FEATURE_ERROR_MAX
    )
