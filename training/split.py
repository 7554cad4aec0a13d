"""Cuts through a data set: by user for evaluation, by time for training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.dataset import Dataset


@dataclass(frozen=True)
class Holdout:
    """Leave-last-one-out: `train` is all events but each user's last, `test` holds the positions of those."""

    train: Dataset
    test: Dataset


def leave_last_out(dataset: Dataset, event_count: int = 1) -> Holdout:
    """Holds the event out that is `event_count` from each user's end, and drops those after it altogether.

    event_count 1 is the test cut, 2 the validation cut: there the last event is dropped, the one before it held out.
    Users with too few events to have anything left to know them by stay in `train` whole.
    """
    order, offsets = dataset.by_user()
    positions = np.empty(len(dataset), dtype=np.int64)
    positions[order] = np.arange(len(dataset))
    from_end = offsets[1:][dataset.users] - positions  # 1 for a user's last event
    lengths = np.diff(offsets)[dataset.users]
    held = (from_end == event_count) & (lengths > event_count)
    dropped = (from_end <= event_count) & (lengths > event_count)
    return Holdout(dataset.take(~dropped), dataset.take(held))


def window_edges(event_count: int, window_count: int, first_share: float) -> NDArray[np.int64]:
    """(window_count + 1,) positions in time order: the first window starts after `first_share` of the events."""
    start = int(event_count * first_share)
    return np.linspace(start, event_count, window_count + 1).astype(np.int64)
