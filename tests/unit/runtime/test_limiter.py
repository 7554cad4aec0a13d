"""The limit of waiting calls, before a simulated server: what it lets in, what it learns, that it counts right."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.limiter import BOUNDS, Bounds, Limiter

CALL_S = 0.00065


class Simulated:
    """One worker that takes `call_s` a call, behind a limiter. Time is its own."""

    def __init__(self, call_s: float, limiter: Limiter) -> None:
        self.call_s, self.limiter = call_s, limiter
        self.waiting: deque[tuple[float, bool]] = deque()
        self.free_s = 0.0  # when the worker ends what it does
        self.is_running = False
        self.took_s: list[float] = []
        self.accepted, self.refused = [0, 0], [0, 0]

    def arrive(self, now_s: float, sheddable: bool = False) -> None:
        self.work_until(now_s)
        if self.limiter.admit(sheddable, now_s):
            self.accepted[sheddable] += 1
            self.waiting.append((now_s, sheddable))
        else:
            self.refused[sheddable] += 1

    def work_until(self, now_s: float) -> None:
        """Ends and begins calls up to a time."""
        while True:
            if self.is_running:
                if self.free_s > now_s:
                    return
                self.is_running = False
                self.limiter.finish()
                self.limiter.close()
            if not self.waiting or max(self.free_s, self.waiting[0][0]) > now_s:
                return
            came_s, _ = self.waiting.popleft()
            begin_s = max(self.free_s, came_s)
            self.limiter.begin(begin_s)
            self.is_running, self.free_s = True, begin_s + self.call_s
            self.took_s.append(self.free_s - came_s)


def flooded(call_s: float, times: float, seconds: float, sheddable_share: float = 0.0) -> Simulated:
    """`times` as many calls as the worker can do, at random."""
    rng = np.random.default_rng(7)
    server = Simulated(call_s, Limiter())
    count = int(seconds / call_s * times)
    arrivals = np.cumsum(rng.exponential(call_s / times, count))
    for now_s, draw in zip(arrivals, rng.random(count), strict=True):
        server.arrive(float(now_s), bool(draw < sheddable_share))
    return server


def test_limit_when_five_times_too_many_come_keeps_the_worker_busy_and_waits_short() -> None:
    server = flooded(CALL_S, 5.0, 10.0)
    settled = server.took_s[len(server.took_s) // 2 :]
    assert len(server.took_s) > 0.99 * 10.0 / CALL_S
    assert np.quantile(settled, 0.99) < 2 * BOUNDS.wait_s_max
    assert server.refused[0] > 3 * server.accepted[0]


@pytest.mark.parametrize("call_s", [0.0002, 0.00065, 0.005])
def test_limit_when_calls_cost_more_is_lower_and_within_its_bounds(call_s: float) -> None:
    limit = flooded(call_s, 5.0, 10.0).limiter.limit
    expected = min(max(BOUNDS.wait_s_max / call_s, BOUNDS.waiting_min), BOUNDS.waiting_max)
    assert limit == pytest.approx(expected, rel=0.35)


def test_limit_when_half_of_what_is_possible_comes_refuses_nobody() -> None:
    assert flooded(CALL_S, 0.5, 10.0).refused == [0, 0]


def test_limit_when_the_flood_has_passed_returns_to_its_first_value() -> None:
    server = flooded(CALL_S, 5.0, 5.0)
    assert server.limiter.limit < BOUNDS.waiting_first
    start_s = server.free_s + 1.0
    for number in range(4_000):
        server.arrive(start_s + number * CALL_S * 2)
    assert server.limiter.limit >= BOUNDS.waiting_first


def test_calls_when_half_may_be_shed_are_refused_by_priority() -> None:
    server = flooded(CALL_S, 5.0, 10.0, sheddable_share=0.5)
    assert server.accepted[1] < 0.05 * server.accepted[0]
    alone = flooded(CALL_S, 5.0, 10.0)
    assert sum(server.accepted) > 0.99 * sum(alone.accepted)


def test_call_when_handlers_wait_for_a_store_comes_in_until_too_many_are_open() -> None:
    limiter = Limiter(Bounds(open_max=300))
    for _ in range(300):
        assert limiter.admit(False, 0.0)
        limiter.begin(0.0)
    assert not limiter.admit(False, 0.0)
    limiter.finish()
    limiter.close()
    assert limiter.admit(False, 0.0)


def test_limit_when_calls_were_given_up_learns_nothing_from_them() -> None:
    limiter = Limiter()
    for _ in range(100):
        assert limiter.admit(False, 0.0)
        limiter.close()  # its caller has gone
    for _ in range(BOUNDS.marks * 2):
        assert limiter.admit(False, 100.0)
        limiter.begin(100.0)
        limiter.finish()
        limiter.close()
    assert limiter.limit >= BOUNDS.waiting_first


@given(st.lists(st.sampled_from(["normal", "sheddable", "begin", "finish", "give up"]), max_size=300))
def test_counts_when_calls_come_and_go_in_any_order_are_a_plain_models(steps: list[str]) -> None:
    limiter = Limiter(Bounds(waiting_min=2, waiting_first=4, waiting_max=6, open_max=8, marks=2))
    waiting, running = 0, 0
    for number, step in enumerate(steps):
        now_s = number * 0.004
        if step in ("normal", "sheddable"):
            limit = max(1.0, limiter.limit * 0.5) if step == "sheddable" else limiter.limit
            expected = waiting < limit and waiting + running < 8
            assert limiter.admit(step == "sheddable", now_s) == expected
            waiting += expected
        elif step == "begin" and waiting:
            limiter.begin(now_s)
            waiting, running = waiting - 1, running + 1
        elif step == "finish" and running:
            limiter.finish()
            limiter.close()
            running -= 1
        elif step == "give up" and waiting:
            limiter.close()
            waiting -= 1
        assert (limiter.waiting_count, limiter.open_count) == (waiting, waiting + running)
        assert 2 <= limiter.limit <= 6


@pytest.mark.parametrize(
    "wrong", [{"waiting_min": 0}, {"waiting_first": 300}, {"sheddable_share": 0.0}, {"decrease": 1.0}]
)
def test_bounds_when_they_contradict_themselves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        Bounds(**wrong)  # type: ignore[arg-type]  # counts and shares in one table
