"""What a run publishes: fitted on all events, judged by a part that saw none of those it is judged by."""

from __future__ import annotations

from tests.unit.training.synthetic import CONFIG, synthetic_dataset
from training import run
from training.config import no_progress
from training.fit import fit_base
from training.ranker import fit_ranker
from training.split import leave_last_out

DATASET = synthetic_dataset()


def _published(first):
    found = []
    run.train(DATASET, CONFIG, first, found.append, no_progress)
    return found


def _bytes(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


def test_train_when_it_is_not_the_first_publishes_once_with_a_ranker():
    (only,) = _published(first=False)
    assert only.model.has_ranker
    assert set(only.metrics) >= {"vectorizer_ndcg_at_10", "ranker_ndcg_at_10"}


def test_train_when_it_is_the_first_publishes_before_the_ranker_too():
    early, late = _published(first=True)
    assert (early.model.has_ranker, late.model.has_ranker) == (False, True)
    assert "ranker_ndcg_at_10" not in early.metrics


def test_train_when_done_publishes_all_events_and_a_ranker_of_the_part_before_the_test():
    (only,) = _published(first=False)
    forest, params = fit_ranker(leave_last_out(DATASET).train, CONFIG.base, CONFIG.ranker)
    expected = fit_base(DATASET, CONFIG.base).with_forest(forest, params)
    assert only.event_count == len(DATASET)
    assert only.model.params == expected.params
    assert _bytes(only.model.to_arrays()) == _bytes(expected.to_arrays())
