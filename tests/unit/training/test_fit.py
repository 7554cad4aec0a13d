"""The base model and the ranker: the same twice, and something for the smallest data."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from tests.unit.training.synthetic import BASE, CONFIG, RANKER, dataset_of, synthetic_dataset
from training.config import BaseConfig
from training.dataset import DatasetError
from training.evaluate import evaluate
from training.fit import fit_base
from training.neighbours import (
    cosine_lists,
    ease_matrix,
    interactions,
    sparse_lists,
    top_lists,
    transition_lists,
)
from training.ranker import fit_ranker
from vectorizer import ModelArrays, Workspace, gather, score, vectorize
from vectorizer.limits import LIST_COUNT_MAX


@pytest.mark.parametrize("name", ["neighbour_count", "transition_count"])
@pytest.mark.parametrize("count", [0, LIST_COUNT_MAX + 1])
def test_base_config_when_lists_are_empty_or_longer_than_a_request_has_room_for_is_refused(name, count):
    assert getattr(BaseConfig(**{name: LIST_COUNT_MAX}), name) == LIST_COUNT_MAX
    with pytest.raises(ValueError, match=f"{name} is {count}, it has to be 1 to {LIST_COUNT_MAX}"):
        BaseConfig(**{name: count})


def _same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(left[k].tobytes() == right[k].tobytes() for k in left)


def test_fit_base_when_run_twice_gives_the_same_arrays():
    dataset = synthetic_dataset()
    first, second = fit_base(dataset, BASE), fit_base(dataset, BASE)
    assert _same(first.to_arrays(), second.to_arrays())
    assert first.params == second.params


def test_fit_base_when_thread_count_differs_gives_the_same_factors():
    dataset = synthetic_dataset()
    first = fit_base(dataset, BASE)
    second = fit_base(dataset, BaseConfig(**{**vars(BASE), "thread_count": 2}))
    assert first.factors.tobytes() == second.factors.tobytes()


def test_fit_base_when_seed_differs_gives_other_factors():
    dataset = synthetic_dataset()
    other = fit_base(dataset, BaseConfig(**{**vars(BASE), "seed": 8}))
    assert not np.array_equal(fit_base(dataset, BASE).factors, other.factors)


def test_fit_ranker_when_run_twice_gives_the_same_forest():
    dataset = synthetic_dataset()
    (first, first_params), (second, second_params) = (fit_ranker(dataset, BASE, RANKER) for _ in range(2))
    assert len(first["forest_features"]) == RANKER.tree_count
    assert _same(first, second)
    assert first_params == second_params


def test_fit_base_when_progress_is_watched_reports_rising_steps():
    seen = []
    fit_base(synthetic_dataset(10), BASE, lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == list(range(len(seen)))
    assert seen[-1][1] == seen[-1][2]


ODD = {
    "one event": dataset_of([0], [0], [7]),
    "one item": dataset_of([0, 1, 2, 2], [0, 0, 0, 0], [1, 2, 3, 4]),
    "one user": dataset_of([0] * 6, [0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]),
    "one event a user": dataset_of([0, 1, 2], [0, 1, 2], [1, 2, 3]),
    "all at one time": dataset_of([0, 0, 0, 1, 1, 1], [0, 1, 2, 1, 2, 0], [9] * 6),
    "ten users": synthetic_dataset(10, item_count=12, length=4),
    "unknown codes": dataset_of([0, 0, 1, 1], [0, 1, 1, 0], [1, 2, 3, 4], codes=[0, 15, 9, 0]),
    "times at the ends": dataset_of([0, 0, 1, 1], [0, 1, 0, 1], [0, 2**32 - 1, 0, 2**40]),
}


@pytest.mark.parametrize("dataset", ODD.values(), ids=list(ODD))
def test_evaluate_when_data_is_odd_gives_finite_figures(dataset):
    result = evaluate(dataset, CONFIG)
    assert result["data"]["events"] == len(dataset)
    assert set(result["models"]) == {"popularity", "item_knn", "ease", "ials", "vectorizer", "ranker"}
    for figures in result["models"].values():
        assert all(0 <= figures[name] <= 1 for name in ("ndcg_at_10", "recall_at_100", "hit_rate_at_10"))


@pytest.mark.parametrize("dataset", ODD.values(), ids=list(ODD))
def test_request_when_model_is_of_odd_data_answers_every_user(dataset):
    base = fit_base(dataset, BASE)
    model = base.with_forest(*fit_ranker(dataset, BASE, RANKER))
    workspace = Workspace(model)
    for row in range(-1, model.item_count):
        ring = (
            np.array([row], dtype=np.int32),
            np.array([2], dtype=np.uint8),
            np.array([5], dtype=np.uint32),
        )
        vector = vectorize(*ring, model, workspace)
        found = gather(*ring, vector, model, workspace).rows
        assert row not in found
        assert len(set(found)) == len(found) == model.item_count - (row >= 0)
        assert np.isfinite(score(found, *ring, 10, vector, model, workspace)).all()


def test_evaluate_when_users_walk_in_order_ranks_above_popularity():
    models = evaluate(synthetic_dataset(), CONFIG)["models"]
    assert models["vectorizer"]["ndcg_at_10"] > 2 * models["popularity"]["ndcg_at_10"]
    assert models["ranker"]["ndcg_at_10"] > 0.9  # the walk is in the transitions


def test_fit_base_when_items_have_no_events_leaves_them_out():
    model = fit_base(dataset_of([0, 1], [1, 3], [1, 2], item_count=5), BASE)
    assert model.item_keys.tolist() == [3, 9]
    assert model.rows_of(np.array([0, 3, 9, 12], dtype=np.int32)).tolist() == [-1, 0, 1, -1]


def test_build_when_there_are_no_events_says_what_to_do():
    with pytest.raises(DatasetError, match="load some"):
        dataset_of([], [], [])


def test_model_arrays_when_stored_and_read_are_the_same():
    model = fit_base(synthetic_dataset(20), BASE)
    again = ModelArrays.from_arrays(model.to_arrays(), model.params)
    assert _same(model.to_arrays(), again.to_arrays())


def test_bucket_counts_when_summed_equal_events_before_each_edge():
    dataset = synthetic_dataset(20)
    model = fit_base(dataset, BASE)
    start, width = model.params["bucket_start_s"], model.params["bucket_width_s"]
    for edge, total in enumerate(model.bucket_totals):
        assert total == np.count_nonzero(dataset.times.astype(np.int64) < start + edge * width)


def test_ease_matrix_when_compared_with_dense_inverse_agrees():
    rng = np.random.default_rng(6)
    rows = np.minimum(rng.exponential(5, 200).astype(int), 19)  # of unlike frequency: B is not symmetric
    seen = interactions(dataset_of((np.arange(200) // 8).tolist(), rows.tolist(), [1] * 200, item_count=20))
    gram = np.asarray((seen.T @ seen).todense(), dtype=float) + 5.0 * np.eye(20)
    inverse = np.linalg.inv(gram)
    expected = inverse / -np.diag(inverse)
    np.fill_diagonal(expected, 0)
    assert np.allclose(ease_matrix(seen, 5.0), expected, atol=1e-5)


def test_cosine_lists_when_blocks_are_many_agree_with_dense_cosine(monkeypatch):
    monkeypatch.setattr("training.neighbours.BLOCK_ROW_COUNT", 7)
    seen = interactions(synthetic_dataset(30, item_count=20))
    both = np.asarray((seen.T @ seen).todense())
    norms = np.sqrt(np.diag(both))
    dense = both / (np.outer(norms, norms) + 10.0)
    np.fill_diagonal(dense, 0)
    rows, weights = cosine_lists(seen, 6, 10.0)
    expected_rows, expected_weights = top_lists(dense, 6)
    assert np.allclose(weights, expected_weights, atol=1e-6)
    assert (rows >= 0).tolist() == (expected_rows >= 0).tolist()


def test_transition_lists_when_one_user_walks_weigh_the_next_item_most():
    dataset = dataset_of([0, 0, 0], [0, 1, 2], [1, 2, 3])
    rows, weights = transition_lists(dataset, 5, reach=2, decay=0.5, backward=0.25, shrink=0.0, power=0.0)
    assert rows[0].tolist() == [1, 2, -1]
    assert weights[0].tolist() == [1.0, 0.5, 0.0]
    assert rows[1].tolist() == [2, 0, -1]
    assert weights[1].tolist() == [1.0, 0.25, 0.0]


def test_transition_lists_when_users_follow_each_other_do_not_lead_across():
    rows, _ = transition_lists(dataset_of([0, 1], [0, 1], [1, 2]), 5, 10, 0.5, 0.5, 0.0, 0.0)
    assert (rows == -1).all()


def test_sparse_lists_when_compared_with_dense_lists_agree():
    rng = np.random.default_rng(4)
    dense = np.where(rng.random((40, 30)) < 0.3, rng.integers(-1, 4, (40, 30)), 0).astype(np.float32)
    for count in (3, 30):  # small integers: many ties; a whole sort gives them to the lower column
        rows, weights = sparse_lists(sp.csr_matrix(dense), count)
        expected = np.argsort(-dense, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(dense, expected, axis=1)
        assert rows.tolist() == np.where(best > 0, expected, -1).tolist()
        assert weights.tolist() == np.maximum(best, 0).tolist()


def test_fit_base_when_items_are_many_takes_no_dense_matrix():
    count = 30_000  # 3.6 GB as a dense float32 matrix
    tracemalloc.start()
    model = fit_base(dataset_of([i // 5 for i in range(count)], list(range(count)), list(range(count))), BASE)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.item_count == count
    assert (model.neighbours[0] >= 0).sum() == 4  # the others of the same user
    assert peak_bytes < 200e6


def test_request_when_user_has_thousands_of_events_looks_at_the_newest():
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 500, 5_000).tolist()
    result = evaluate(dataset_of([0] * 5_000 + [1, 1, 1], [*rows, 1, 2, 3], list(range(5_003))), CONFIG)
    assert result["data"]["users_evaluated"] == 2


def test_sparse_lists_when_row_is_empty_are_padded():
    rows, weights = sparse_lists(interactions(dataset_of([0, 2], [0, 1], [1, 2])), 2)
    assert rows.tolist() == [[0, -1], [-1, -1], [1, -1]]
    assert weights.tolist() == [[1, 0], [0, 0], [1, 0]]


def test_fit_ranker_when_progress_is_watched_counts_windows_and_trees():
    seen = []
    fit_ranker(synthetic_dataset(), BASE, RANKER, lambda *step: seen.append(step))
    assert ("training rows", RANKER.window_count, RANKER.window_count) in seen
    assert seen[-1] == ("ranker", RANKER.tree_count, RANKER.tree_count)
