"""What one request was decided by, stage by stage: the answer is made of it, and Explain asks it why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest

from serving.candidates import NO_KEYS, NO_PRODUCTS, Candidates, Lists, Personal
from serving.effort import Effort
from serving.eligible import Eligible
from serving.model import LoadedModel
from serving.rules import Rules
from serving.selection import Selected

Keys = NDArray[np.int32]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Blocked:
    """The keys (b,) int32 that a request leaves out, by why; a key may stand there more than once."""

    shown: Keys  # stood on earlier pages
    context: Keys  # are being looked at
    excluded: Keys  # by the request
    seen: Keys  # touched by the user; empty where he wants them again
    served: Keys = field(
        default_factory=lambda: NO_KEYS
    )  # went out to him so lately that the surface leaves them out

    @property
    def keys(self) -> Keys:
        """All of them."""
        return np.concatenate([self.shown, self.context, self.excluded, self.seen, self.served])

    def without(self, pinned: Keys) -> Blocked:
        """The same, but for pinned items (m,): seen or served lately, they stand where they are told."""
        if not len(pinned):
            return self
        seen, served = self.seen[~np.isin(self.seen, pinned)], self.served[~np.isin(self.served, pinned)]
        return replace(self, seen=seen, served=served)


@dataclass(frozen=True)
class Scored:
    """The candidates and what the model thinks of them; what is empty or None did not take place."""

    candidates: Candidates
    scores: Scores  # (k,) float32, before any rule
    lists: Lists
    personal: Personal | None = None
    products: Scores = field(default_factory=lambda: NO_PRODUCTS)  # (k,) float32, see serving/ranker.py


@dataclass(frozen=True)
class Decision:
    """One request, decided. `eligible` holds until the next await, the rest for good."""

    request: RecommendRequest
    rules: Rules
    answer_id: bytes  # by which places are drawn; empty: none are
    time_s: float  # unix seconds, as of which it was decided
    model: LoadedModel | None
    effort: Effort
    eligible: Eligible
    blocked: Blocked
    scored: Scored
    selected: Selected
    degradations: list[Degradation.ValueType]

    @property
    def places(self) -> NDArray[np.int64]:
        """(c,) int64 in the candidates, c <= rules.page_size, in order."""
        return self.selected.places
