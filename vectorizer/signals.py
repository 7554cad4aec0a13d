"""What each signal code is worth: two tables by code, chosen on MovieLens' validation cut where it has the code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from profiles.signals import Signal

SIGNAL_CODE_COUNT = 16  # a code is four bits of the profile's ring

# How much an event says about what the user attends to: multiplies its confidence in the fold-in. A bad rating still
# says that the user knows films of this kind; an explicit dislike is left out of the vector.
_WEIGHTS = {
    Signal.VIEW: 0.5,
    Signal.CLICK: 0.8,
    Signal.ADD_TO_CART: 1.5,
    Signal.PURCHASE: 2.0,
    Signal.RATING_LOW: 0.5,
    Signal.RATING_MID: 0.8,
    Signal.RATING_HIGH: 1.0,
    Signal.LIKE: 1.5,
    Signal.DISLIKE: 0.0,
    Signal.OTHER: 0.5,
}
# How much the user liked it, -1..1: separates taste from attention in the ranker's features.
_LIKINGS = {
    Signal.VIEW: 0.1,
    Signal.CLICK: 0.3,
    Signal.ADD_TO_CART: 0.7,
    Signal.PURCHASE: 1.0,
    Signal.RATING_LOW: -1.0,
    Signal.RATING_MID: 0.0,
    Signal.RATING_HIGH: 1.0,
    Signal.LIKE: 1.0,
    Signal.DISLIKE: -1.0,
    Signal.OTHER: 0.1,
}


def _table(values: dict[Signal, float]) -> NDArray[np.float32]:
    table = np.zeros(SIGNAL_CODE_COUNT, dtype=np.float32)
    for signal, value in values.items():
        table[int(signal)] = value
    table.setflags(write=False)
    return table


SIGNAL_WEIGHTS = _table(_WEIGHTS)  # (16,) float32, unknown codes weigh nothing
SIGNAL_LIKINGS = _table(_LIKINGS)  # (16,) float32
