"""Places of items that no model can score."""

from __future__ import annotations

import numpy as np

from serving.limits import NEW_STEP_COUNT
from serving.ranker import places_between, ranks_in_order, trending_shares
from serving.trending import TrendingList


def test_places_between_when_merged_gives_one_place_in_ten() -> None:
    known = np.linspace(1, 0, 95, dtype=np.float32)
    merged = np.concatenate([known, places_between(known, 3)])
    order = np.argsort(-merged, kind="stable")
    places = np.flatnonzero(order >= len(known))
    assert places.tolist() == [NEW_STEP_COUNT - 1, 2 * NEW_STEP_COUNT - 1, 3 * NEW_STEP_COUNT - 1]


def test_places_between_when_others_end_keeps_the_order_behind_them() -> None:
    known = np.array([0.5, 0.25], dtype=np.float32)
    places = places_between(known, 4)
    assert (places <= 0.25).all()
    assert (np.diff(places) < 0).all()
    assert (np.diff(places_between(known[:0], 3)) < 0).all()


def test_trending_shares_of_keys_that_do_not_trend_are_zero() -> None:
    trending = TrendingList(np.array([9, 2], dtype=np.int32), np.array([0.75, 0.25], dtype=np.float32))
    keys = np.array([1, 2, 9, 10], dtype=np.int32)
    assert trending_shares(keys, trending).tolist() == [0, 0.25, 0.75, 0]


def test_ranks_in_order_fall_and_stay_above_zero() -> None:
    ranks = ranks_in_order(4)
    assert ranks.tolist() == [1.0, 0.75, 0.5, 0.25]
