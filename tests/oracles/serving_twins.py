"""Slow plain twins of serving's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def merge(
    found: Sequence[int], bit: int, room: int, allowed: set[int], keys: list[int], bits: list[int], limit: int
) -> None:
    """Appends to keys and bits in place."""
    for key in found:
        if key in keys:
            if key in allowed:
                bits[keys.index(key)] |= bit
        elif key in allowed and room > 0 and len(keys) < limit:
            keys.append(key)
            bits.append(bit)
            room -= 1


def likeness(i: int, j: int, factors: np.ndarray, rows: Sequence[int], categories: Sequence[int]) -> float:
    a, b = rows[i], rows[j]
    if a >= 0 and b >= 0 and factors[a].any() and factors[b].any():
        cosine = float(factors[a] @ factors[b] / (np.linalg.norm(factors[a]) * np.linalg.norm(factors[b])))
        return max(cosine, 0.0)
    either = (categories[i] | categories[j]).bit_count()
    return (categories[i] & categories[j]).bit_count() / either if either else 0.0


def select_diverse(
    scores: Sequence[float],
    factors: np.ndarray,
    rows: Sequence[int],
    categories: Sequence[int],
    diversity: float,
    count: int,
) -> list[int]:
    low, span = min(scores), max(max(scores) - min(scores), 1e-9)
    chosen: list[int] = []
    while len(chosen) < min(count, len(scores)):

        def value(i: int) -> float:
            nearest = max((likeness(i, j, factors, rows, categories) for j in chosen), default=0.0)
            return (1 - diversity) * (scores[i] - low) / span - diversity * nearest

        chosen.append(max((i for i in range(len(scores)) if i not in chosen), key=value))
    return chosen
