"""Cuts by user and by time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.training.synthetic import BASE, RANKER, dataset_of, synthetic_dataset
from training import evaluate
from training.evaluate import LAST, figures, model_ranks, rank_of
from training.fit import fit_base
from training.ranker import fit_ranker
from training.split import leave_last_out, window_edges
from vectorizer import gather


def test_leave_last_out_when_times_tie_holds_out_the_last_to_arrive():
    holdout = leave_last_out(dataset_of([0, 0, 0, 1, 1], [0, 1, 2, 3, 4], [5, 5, 5, 9, 8]))
    assert sorted(zip(holdout.test.users.tolist(), holdout.test.rows.tolist(), strict=True)) == [
        (0, 2),
        (1, 3),
    ]
    assert len(holdout.train) == 3


def test_leave_last_out_when_cut_is_second_to_last_drops_the_last():
    holdout = leave_last_out(dataset_of([0, 0, 0, 1, 1], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]), event_count=2)
    assert holdout.test.rows.tolist() == [1]
    assert holdout.train.rows.tolist() == [0, 3, 4]  # user 1 is too short to be cut twice


def test_leave_last_out_when_user_has_one_event_keeps_it():
    holdout = leave_last_out(dataset_of([0, 1, 1], [0, 1, 2], [1, 2, 3]))
    assert holdout.test.users.tolist() == [1]
    assert sorted(holdout.train.users.tolist()) == [0, 1]


def test_window_edges_when_windows_are_cut_cover_all_after_the_first_share():
    assert window_edges(100, 4, 0.2).tolist() == [20, 40, 60, 80, 100]


@pytest.mark.parametrize(("scores", "rank"), [([5, 4, 3, 2], 1), ([0, 4, 9, 2], 0), ([4, 4, 4, 4], 1)])
def test_rank_of_when_items_are_seen_or_tie_counts_the_unseen_above(scores, rank):
    assert rank_of(1, np.array(scores, dtype=np.float32), np.array([2], dtype=np.int32)) == rank


def test_figures_when_ranks_are_known_equal_the_formulas():
    result = figures(np.array([0, 2, 9, 10, 99, 100, LAST]), 1.5)
    assert result["ndcg_at_10"] == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 7)
    assert result["hit_rate_at_10"] == pytest.approx(3 / 7)
    assert result["recall_at_100"] == pytest.approx(5 / 7)
    assert result["fit_s"] == 1.5


def test_model_ranks_when_user_has_seen_more_than_a_ring_keeps_all_of_it_out_of_the_candidates(monkeypatch):
    holdout = leave_last_out(synthetic_dataset(20, item_count=400, length=90))
    model = fit_base(holdout.train, BASE)
    model = model.with_forest(*fit_ranker(holdout.train, BASE, RANKER))
    excluded = []

    def watched(*ring, blocked_rows):
        excluded.append(len(blocked_rows))
        return gather(*ring, blocked_rows=blocked_rows)

    monkeypatch.setattr(evaluate, "gather", watched)
    model_ranks(holdout, model)
    assert excluded == [89] * 20
