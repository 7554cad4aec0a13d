"""How much of the way a request goes in the time it has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.effort import FIRST_MS, NEED_MS_MAX, NEED_MS_MIN, SENDING_MS, WAYS, Budget, Effort, Pace


def calm(took_s: float) -> Pace:
    pace = Pace()
    for _ in range(200):
        pace.note(Effort.FULL, took_s)
    return pace


def test_efforts_stand_from_the_longest_way_to_the_shortest() -> None:
    shares = [WAYS[effort].share for effort in Effort]
    said = [set(WAYS[effort].degradations) for effort in Effort]
    assert shares == sorted(shares, reverse=True)
    assert not said[0]
    assert said[0] < said[1] < said[2] < said[3]


def test_effort_when_there_is_time_is_full() -> None:
    assert Pace().effort_for(1.0) is Effort.FULL


@pytest.mark.parametrize("effort", Effort)
def test_effort_when_time_is_just_enough_for_a_way_takes_it(effort: Effort) -> None:
    pace = calm(0.001)
    left_s = (SENDING_MS + WAYS[effort].share * pace.need_ms + 1e-6) / 1000
    assert pace.effort_for(left_s) is effort


def test_effort_when_there_is_no_time_at_all_is_the_shortest() -> None:
    assert Pace().effort_for(-1.0) is Effort.POPULAR


@given(
    st.lists(st.tuples(st.sampled_from(Effort), st.floats(0, 10)), max_size=60),
    st.floats(-1, 1),
    st.floats(0, 1),
)
def test_effort_never_falls_with_more_time_whatever_was_noted(
    noted: list[tuple[Effort, float]], left_s: float, more_s: float
) -> None:
    pace = Pace()
    for effort, took_s in noted:
        pace.note(effort, took_s)
    assert NEED_MS_MIN <= pace.need_ms <= NEED_MS_MAX
    assert pace.effort_for(left_s + more_s) <= pace.effort_for(left_s)


def test_need_when_short_ways_get_faster_falls_again() -> None:
    """A process that was held up finds back, though it never goes the whole way meanwhile."""
    pace = calm(0.05)
    held_up_ms = pace.need_ms
    for _ in range(200):
        pace.note(Effort.POPULAR, 0.0001)
    assert pace.need_ms < FIRST_MS < held_up_ms


def test_budget_of_a_long_call_leaves_time_for_computing() -> None:
    budget = Budget.of(1.0)
    assert 0 < budget.wait_until_s < budget.deadline_s


def test_budget_of_a_short_call_waits_for_half_of_it() -> None:
    budget = Budget.of(0.004)
    assert budget.deadline_s - budget.wait_until_s == pytest.approx(0.002)
