"""How much of the whole way a request has time for: what is left out first, and how long each way takes.

| effort | retrieval | candidates | diversity | ranker | the answer says |
|---|---|---|---|---|---|
| FULL | as the plan has it | 200 | yes | yes | nothing |
| NARROW | a quarter as wide | 200 | yes | yes | RETRIEVAL_NARROWED |
| FEW | a quarter as wide | 100 | no | yes | and CANDIDATES_TRIMMED, DIVERSITY_SKIPPED where it was asked for |
| UNRANKED | a quarter as wide | 100 | no | no | and RANKER_SKIPPED |
| POPULAR | none: trending, popular, promoted, new | as asked | no | no | RETRIEVAL_SKIPPED, RANKER_SKIPPED |
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from reco.ranking.v1.ranking_service_pb2 import Degradation

from serving import limits
from serving.candidates import Room
from vectorizer.limits import CANDIDATE_LIMIT
from vectorizer.request import QUOTAS

SAMPLE_MS_MAX: Final = 20.0  # of one request: beyond, the process was held up by something else
NEED_MS_MIN, NEED_MS_MAX = 0.1, 25.0  # what a whole request may be thought to need
FIRST_MS: Final = 2.0  # before anything was measured
SENDING_MS: Final = 0.3  # from the last stage to the caller, over loopback; a network is the caller's to know
# The mean moves by an eighth, the deviation by a quarter, and four deviations are kept in reserve: as TCP estimates a round
# trip (Jacobson and Karels, 1988), which meets the same question of when something that varies is late.
MEAN_STEP, DEVIATION_STEP, RESERVE_DEVIATIONS = 1 / 8, 1 / 4, 4


class Effort(IntEnum):
    """From the whole way to the shortest."""

    FULL = 0
    NARROW = 1
    FEW = 2
    UNRANKED = 3
    POPULAR = 4


@dataclass(frozen=True)
class Way:
    """What an effort does."""

    room: Room
    is_ranked: bool
    is_diverse: bool
    share: float  # of the whole way's time, measured at a million items
    degradations: tuple[Degradation.ValueType, ...]


_NARROWED = Degradation.DEGRADATION_RETRIEVAL_NARROWED
_TRIMMED = Degradation.DEGRADATION_CANDIDATES_TRIMMED
_UNRANKED = Degradation.DEGRADATION_RANKER_SKIPPED
_FEW = Room(model=CANDIDATE_LIMIT // 2, quotas=(QUOTAS // 2).astype(np.int32), retrieval_width=0.25)
WAYS: Final = {
    Effort.FULL: Way(Room(), True, True, 1.0, ()),
    Effort.NARROW: Way(Room(retrieval_width=0.25), True, True, 0.9, (_NARROWED,)),
    Effort.FEW: Way(_FEW, True, False, 0.7, (_NARROWED, _TRIMMED)),
    Effort.UNRANKED: Way(_FEW, False, False, 0.45, (_NARROWED, _TRIMMED, _UNRANKED)),
    Effort.POPULAR: Way(
        Room(retrieval_width=0.0),
        False,
        False,
        0.25,
        (Degradation.DEGRADATION_RETRIEVAL_SKIPPED, _UNRANKED),
    ),
}


@dataclass(frozen=True)
class Budget:
    """Until when a call wants its answer, and until when it may wait for stores, both in `time.monotonic`.

    That is the clock of event loops, too; uvloop's own is only as fine as a millisecond.
    """

    deadline_s: float
    wait_until_s: float

    @classmethod
    def of(cls, left_s: float) -> Budget:
        """The budget of a call that has `left_s` seconds from now on."""
        now_s = time.monotonic()
        # Of a time that is shorter than the reserve twice, waiting gets half: it usually takes a fraction of a millisecond.
        wait_s = max(left_s - limits.COMPUTE_MS_RESERVE / 1000, left_s / 2)
        return cls(now_s + left_s, now_s + wait_s)

    def wait_s(self) -> float:
        """Seconds that may still be waited; negative beyond."""
        return self.wait_until_s - time.monotonic()


class Pace:
    """How long requests take after their profile is there, from those before."""

    def __init__(self) -> None:
        self._mean_ms, self._deviation_ms = FIRST_MS, FIRST_MS / RESERVE_DEVIATIONS

    @property
    def need_ms(self) -> float:
        """Enough for nearly every whole request."""
        need = self._mean_ms + RESERVE_DEVIATIONS * self._deviation_ms
        return min(max(need, NEED_MS_MIN), NEED_MS_MAX)

    def effort_for(self, left_s: float) -> Effort:
        """The most that `left_s` seconds are enough for; POPULAR when they are enough for nothing."""
        left_ms, need_ms = left_s * 1000 - SENDING_MS, self.need_ms
        for effort, way in WAYS.items():
            if way.share * need_ms <= left_ms:
                return effort
        return Effort.POPULAR

    def note(self, effort: Effort, took_s: float) -> None:
        """One request took `took_s` seconds with this effort, its wait for the profile left out."""
        sample_ms = min(took_s * 1000 / WAYS[effort].share, SAMPLE_MS_MAX)
        off_ms = sample_ms - self._mean_ms
        self._mean_ms += MEAN_STEP * off_ms
        self._deviation_ms += DEVIATION_STEP * (abs(off_ms) - self._deviation_ms)
