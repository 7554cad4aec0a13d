"""Slow plain twins of serving's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Union = list[tuple[int, int, int]]  # key, row, bits


def unite(
    found: Union,
    lists: Sequence[tuple[Sequence[int], int, int]],
    fills: Sequence[tuple[Sequence[int], int]],
    count_min: int,
    allowed: set[int],
    row_of: dict[int, int],
    limit: int,
) -> Union:
    """`lists` are keys, bit and room; `fills` keys and bit."""
    union = {key: [row, bits] for key, row, bits in found}

    def offer(listed: Sequence[int], bit: int, room: int, again: bool) -> None:
        for key in (key for key in listed if key in allowed):
            if key in union:
                union[key][1] |= bit if again else 0
            elif room > 0 and len(union) < limit:
                union[key] = [row_of.get(key, -1), bit]
                room -= 1

    for listed, bit, room in lists:
        offer(listed, bit, room, True)
    for listed, bit in fills:
        offer(listed, bit, count_min - len(union), False)
    return [(key, row, bits) for key, (row, bits) in union.items()]


def select_top(scores: Sequence[float], score_min: float, count: int) -> list[int]:
    enough = [i for i, score in enumerate(scores) if score >= score_min]
    return sorted(enough, key=lambda i: -scores[i])[:count]


def share_categories(bits: Sequence[int], own: int, mask: Sequence[bool]) -> list[float]:
    """(bits & own) against (bits | own), by counted digits."""
    return [
        (each & own).bit_count() / (each | own).bit_count() if passes and each | own else 0.0
        for each, passes in zip(bits, mask, strict=True)
    ]


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
