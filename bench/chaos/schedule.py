"""Which fault comes when: drawn from a seed, so that a run can be done again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, zip_longest
from typing import Final

OURS: Final = ("ingest", "consumer-1", "consumer-2", "gateway")
STORES: Final = ("valkey", "postgres")
# Where a connection can be hurt: who calls, and whom.
LINKS: Final = ("caller-ingest", "ingest-valkey", "ingest-postgres", "consumer-valkey", "consumer-postgres")
DISKS: Final = ("lake", "valkey", "postgres")

TARGETS: Final = {
    "kill": (*OURS, *STORES),  # SIGKILL
    "stop": (*OURS, *STORES),  # SIGSTOP, and SIGCONT after a while
    "restart": (*STORES, "ingest", "consumer-1", "consumer-2"),  # asked to end; somebody starts it again
    "cut": LINKS,  # every connection is closed
    "delay": LINKS,  # whatever passes comes late
    "truncate": LINKS,  # the next thing that passes is cut off in its middle, and the connection with it
    "stall": LINKS,  # nothing passes, nothing is closed
    "fill": DISKS,  # not a byte is free
    "skew": ("ingest", "consumer-1", "consumer-2"),  # its clock is wrong
}
# How long it lasts, in seconds. Some stops outlast a lease (ingest/limits.py: 10 s).
LASTS_S: Final = {
    "stop": (0.3, 4.0), "delay": (1.0, 4.0), "stall": (0.5, 6.5), "fill": (0.5, 4.0), "skew": (3.0, 10.0),
}  # fmt: skip
LONG_STOP_S: Final = (11.0, 14.0)
LONG_STOP_SHARE: Final = 0.25  # of the consumers' stops
DELAY_MS: Final = (5, 80)
SKEW_S: Final = (-120.0, 120.0)  # the door takes events up to 300 s ahead
FIRST_S: Final = 2.0
# In the last part our processes live on, so that what they leak while everything else fails can be seen.
AGEING_SHARE: Final = 0.3
ENDS_OURS: Final = ("kill", "restart")


@dataclass(frozen=True)
class Fault:
    """One fault: when (seconds after the load began), what, to whom, for how long, how much."""

    at_s: float
    kind: str
    target: str
    lasts_s: float = 0.0
    amount: float = 0.0  # of a delay in ms, of a clock in s


def draw(seed: int, seconds: float, count: int, disks: bool = True) -> list[Fault]:
    """`count` faults over `seconds`, in order. Every kind comes before one comes twice."""
    chance = random.Random(seed)  # noqa: S311 -- to be repeated, not to be secret
    ageing_s = seconds * (1 - AGEING_SHARE)
    times = sorted(chance.uniform(FIRST_S, max(seconds - FIRST_S, FIRST_S)) for _ in range(count))
    deck, late = _deck(chance, disks, ageing=False), _deck(chance, disks, ageing=True)
    return [_fault(chance, at_s, *next(late if at_s > ageing_s else deck)) for at_s in times]


def _deck(chance: random.Random, disks: bool, ageing: bool) -> Iterator[tuple[str, str]]:
    """Kinds in turn, each with its targets in an order of its own; for ever."""
    kinds = [kind for kind in TARGETS if disks or kind != "fill"]
    chance.shuffle(kinds)
    piles = []
    for kind in kinds:
        targets = [t for t in TARGETS[kind] if not (ageing and kind in ENDS_OURS and t in OURS)]
        chance.shuffle(targets)
        piles.append([(kind, target) for target in targets])
    return cycle(list(_dealt(piles)))


def _dealt(piles: Sequence[list[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
    longest = max(map(len, piles))
    rounds = zip_longest(*(islice(cycle(pile), longest) for pile in piles))
    return chain.from_iterable(rounds)


def _fault(chance: random.Random, at_s: float, kind: str, target: str) -> Fault:
    lasts_s = chance.uniform(*LASTS_S.get(kind, (0.0, 0.0)))
    if kind == "stop" and target.startswith("consumer") and chance.random() < LONG_STOP_SHARE:
        lasts_s = chance.uniform(*LONG_STOP_S)
    amount = 0.0
    if kind == "delay":
        amount = chance.uniform(*DELAY_MS)
    if kind == "skew":
        amount = chance.uniform(*SKEW_S)
    return Fault(round(at_s, 3), kind, target, round(lasts_s, 3), round(amount, 3))
