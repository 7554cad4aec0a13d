"""Selection, slow and plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

MASK = 2**64 - 1


def uniform(seed: int, step: int) -> float:
    z = (seed + (step + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) / 2**53


def turns(shares: Sequence[Fraction], count: int) -> list[int]:
    """Whose turn each step is: of those that are due, the one whose time ends first."""
    slack, given, out = Fraction(1, 2 * len(shares) - 2), Counter[int](), []
    for step in range(1, count + 1):
        due = {i: share * step - given[i] for i, share in enumerate(shares) if share}
        ends = {i: (1 - slack - left) / shares[i] for i, left in due.items() if left >= slack}
        out.append(min(ends, key=lambda i: (ends[i], i)))
        given[out[-1]] += 1
    return out


@dataclass
class Page:
    """What `select_places` is asked, and how it answers."""

    scores: list[float]
    allowed: list[bool]
    pins: list[int]  # of the page's places, then of later ones
    count: int
    kinds: list[int]
    turns: list[int]  # whose turn each place without a pin is; empty: there are no promotions
    diversity: float
    likeness: list[list[float]]
    most: int
    categories: list[list[str]]
    exploration: float
    seed: int
    chosen: list[int] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    propensities: list[float] = field(default_factory=list)

    def fill(self) -> Page:
        pins, turns_left = dict(enumerate(self.pins)), iter(self.turns)
        waiting = {pick for pick in self.pins if pick >= 0}
        for at in range(self.count):
            pick = pins.pop(at, -1)
            if pick >= 0:
                self._put(pick, "pin", 1.0)
                continue
            turn = next(turns_left, None)
            free = [i for i in self._free(waiting) if self._fits(i)]
            mine = [i for i in free if turn is None or self.kinds[i] == turn] or free
            if mine:
                self._put_one_of(mine, at)
                continue
            soon = [place for place, each in pins.items() if each >= 0 and place < self.count]
            later = [place for place, each in pins.items() if each >= 0 and place >= self.count]
            if soon or (later and not self._free(waiting)):
                self._put(pins.pop((soon or later)[0]), "pin", 1.0)
            else:
                break
        return self

    def _free(self, waiting: set[int]) -> list[int]:
        return [i for i, ok in enumerate(self.allowed) if ok and i not in self.chosen and i not in waiting]

    def _fits(self, i: int) -> bool:
        taken = Counter(name for each in self.chosen for name in self.categories[each])
        return not self.most or all(taken[name] < self.most for name in self.categories[i])

    def _put_one_of(self, mine: list[int], at: int) -> None:
        low = min(s for s, ok in zip(self.scores, self.allowed, strict=True) if ok)
        high = max(s for s, ok in zip(self.scores, self.allowed, strict=True) if ok)

        def value(i: int) -> float:
            if not self.diversity:
                return self.scores[i]
            nearest = max((self.likeness[i][j] for j in self.chosen), default=0.0)
            return (1 - self.diversity) * (self.scores[i] - low) / max(
                high - low, 1e-9
            ) - self.diversity * nearest

        best = max(mine, key=value)
        pick, way = best, "promotion" if self.turns and self.kinds[best] else "best"
        if self.exploration and uniform(self.seed, 2 * at) < self.exploration:
            pick, way = mine[int(uniform(self.seed, 2 * at + 1) * len(mine))], "drawn"
        chance = self.exploration / len(mine) + (1 - self.exploration if pick == best else 0)
        self._put(pick, way, chance)

    def _put(self, pick: int, way: str, propensity: float) -> None:
        self.chosen.append(pick)
        self.ways.append(way)
        self.propensities.append(propensity if self.exploration else 0.0)


def in_turns(sources: Sequence[str], scores: Sequence[float], order: Sequence[str]) -> list[int]:
    """The candidates' order when sources take turns; those that take none come last."""
    queues = {name: [i for i in _by_score(scores) if sources[i] == name] for name in order}
    out: list[int] = []
    while any(queues.values()):
        out += [queue.pop(0) for queue in queues.values() if queue]
    return out + [i for i in _by_score(scores) if sources[i] not in order]


def _by_score(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def faded(keys: Sequence[int], ring: Sequence[tuple[int, int]], now_s: float, time_s: float) -> list[float]:
    return [
        sum(float(np.exp(-max(0.0, now_s - at) / time_s)) for key, at in ring if key == mine) for mine in keys
    ]
