"""The guard's two sides give the same answers, and ours is the cheaper one by far."""

from __future__ import annotations

import numpy as np

from bench import guard


def test_guard_when_both_sides_are_run_they_answer_the_same() -> None:
    ours, numpys = guard.retrieval_and_numpy()
    assert len(np.intersect1d(np.asarray(ours()), np.asarray(numpys()))) >= 0.95 * guard.COUNT
    forest, catboosts = guard.forest_and_catboost()
    assert np.allclose(np.asarray(forest()), np.asarray(catboosts()), atol=1e-5)


def test_guard_when_a_ratio_is_beyond_its_bound_names_it() -> None:
    bounds = guard.read_bounds()
    assert guard.beyond(dict.fromkeys(bounds, 0.0), bounds) == []
    assert guard.beyond({name: bound * 1.1 for name, bound in bounds.items()}, bounds) == list(bounds)


def test_ratios_when_measured_in_one_run_are_within_their_bounds() -> None:
    found = guard.ratios()
    assert guard.beyond(found, guard.read_bounds()) == [], found
