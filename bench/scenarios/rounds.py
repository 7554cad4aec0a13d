"""What several rounds have in common: the median is the figure, all of them are kept."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def median(values: Iterable[float | None]) -> float | None:
    """Of those that were measured; None of none."""
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def middle(runs: list[dict[str, Any]], by: Callable[[Mapping[str, Any]], float | None]) -> dict[str, Any]:
    """The run whose figure is the median (the better of the two middle ones), for pictures; all of them as `rounds`."""
    order = sorted(runs, key=lambda run: by(run) or 0.0)
    return {**order[(len(order) - 1) // 2], "rounds": runs}
