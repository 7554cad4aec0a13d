"""Trending weights: what counts, and where."""

from __future__ import annotations

import math

from profiles.signals import Signal
from profiles.trending import WEEK_S, counts, trending_key, week_start_s

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC
NOW_S = MONDAY_S + 3 * 86_400


def test_week_begins_on_monday_at_midnight_utc() -> None:
    assert week_start_s(MONDAY_S) == week_start_s(MONDAY_S + WEEK_S - 1) == MONDAY_S
    assert week_start_s(MONDAY_S - 1) == MONDAY_S - WEEK_S
    assert trending_key(MONDAY_S) == "reco:trending:2026-W48"


def test_a_day_later_weighs_e_times_more() -> None:
    week = counts([(MONDAY_S, Signal.CLICK, 1), (MONDAY_S + 86_400, Signal.CLICK, 2)], NOW_S)[MONDAY_S]

    assert week[1] == 1.0
    assert math.isclose(week[2], math.e)


def test_what_speaks_against_an_item_or_is_old_does_not_trend() -> None:
    old = (MONDAY_S - WEEK_S - 1, Signal.CLICK, 3)

    assert counts([(NOW_S, Signal.DISLIKE, 1), (NOW_S, Signal.RATING_LOW, 2), old], NOW_S) == {}
