"""When each call is to be sent and for whom: drawn before the run, so that nothing the target does can change it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.load.limits import CALLS_MAX, RATE_MAX, SECONDS_MAX

ARRIVALS = ("poisson", "constant")


@dataclass(frozen=True)
class Schedule:
    """c calls. Times are seconds from the start, ascending; calls before `warm_up_s` do not count."""

    times_s: NDArray[np.float64]  # (c,)
    users: NDArray[np.int64]  # (c,) numbers of users
    warm_up_s: float
    seconds: float  # that count, after the warm-up


def draw(
    rate: float, seconds: float, warm_up_s: float, user_count: int, seed: int, arrivals: str = "poisson"
) -> Schedule:
    """Arrivals of `rate` calls/s. Raises ValueError naming what is out of bounds."""
    hold_to_bounds(rate, seconds, warm_up_s)
    if arrivals not in ARRIVALS:
        raise ValueError(f"arrivals is {arrivals!r}, it has to be one of {', '.join(ARRIVALS)}")
    rng = np.random.default_rng(seed)
    end_s = warm_up_s + seconds
    count = int(rate * end_s + 10 * np.sqrt(rate * end_s) + 10)  # ten deviations more than needed
    gaps = rng.exponential(1 / rate, count) if arrivals == "poisson" else np.full(count, 1 / rate)
    times_s = np.cumsum(gaps)
    times_s = times_s[times_s < end_s]
    return Schedule(times_s, rng.integers(0, user_count, len(times_s)), warm_up_s, seconds)


def hold_to_bounds(rate: float, seconds: float, warm_up_s: float) -> None:
    """Raises ValueError naming what is out of bounds."""
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f"the rate is {rate:g}, it has to be above 0 and at most {RATE_MAX:g} calls/s")
    if not seconds > 0 or warm_up_s < 0 or seconds + warm_up_s > SECONDS_MAX:
        raise ValueError(f"a run is longer than 0 and, with its warm-up, at most {SECONDS_MAX:g} s")
    if rate * (seconds + warm_up_s) > CALLS_MAX:
        raise ValueError(f"a run has at most {CALLS_MAX:,} calls: lower the rate or the seconds")
