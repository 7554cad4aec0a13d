"""Watches that the loaded plan still finds what it should: the catalogue drifts, and with it who is hidden and who asks.

Recent users' vectors are kept in a reservoir. Now and then the plan's recall over them is measured against an exact scan of
what may be answered today; when it has fallen below the target, another plan is chosen among those that the bundle's arrays
allow: other widths over the same codes and cells. New codes come with the next model.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import numpy as np
import structlog
from numpy.typing import NDArray

from retrieval import NO_MASK, Plan, Retriever, in_words
from retrieval.choose import choose
from retrieval.limits import RECALL_TARGET
from retrieval.measure import exact_answers, measure, timed
from runtime import metrics
from serving.background import LAST_NICE, Background
from serving.eligibility import EligibilityCache
from serving.model import LoadedModel
from serving.model_store import ModelStore

QUERY_COUNT_MAX = (
    256  # vectors in the reservoir: 64 KiB, and an exact scan of a million items for each in a look
)
QUERY_COUNT_MIN = 32  # with fewer, a look says more about chance than about the plan
RECENT_COUNT = 64  # of the newest vectors, kept whatever a look does: filters are measured on them
LOOK_PERIOD_S = 600.0  # what drifts, drifts in hours; a look takes seconds of one core at a million items

Float32 = NDArray[np.float32]
Mask = NDArray[np.uint8]
Current = Callable[[], tuple[Retriever, Float32, Float32, Mask] | None]


class DriftWatch:
    """Call `note` for each request's vector, and `look` every LOOK_PERIOD_S.

    `current` returns the loaded retriever, its model's factors (n, d) and norms (n,), and what is hidden today without any
    filter (n,) uint8; None while there is no model. All is called on the event loop's thread.
    """

    def __init__(self, current: Current, seed: int) -> None:
        self._current = current
        self._random = random.Random(seed)  # noqa: S311  # picks a sample, keeps no secret
        self._vectors: list[Float32] = []
        self._seen_count = 0
        self._background = Background("drift", LAST_NICE)
        self._of: Retriever | None = None
        self._recent: deque[Float32] = deque(maxlen=RECENT_COUNT)

    def note(self, vector: Float32, retriever: Retriever) -> None:
        """Keeps a (d,) vector with even chances for all since the last look (Vitter's algorithm R)."""
        if retriever is not self._of:
            self._of = retriever
            self._start_over()  # another model's vectors say nothing about this one's items
            self._recent.clear()
        self._seen_count += 1
        vector = vector.copy()
        self._recent.append(vector)
        if len(self._vectors) < QUERY_COUNT_MAX:
            self._vectors.append(vector)
            return
        place = self._random.randrange(self._seen_count)
        if place < QUERY_COUNT_MAX:
            self._vectors[place] = vector

    def forget_model(self, model: LoadedModel) -> None:
        """Lets go of a model that answers no more."""
        if self._of is model.retriever:
            self._of = None
            self._start_over()
            self._recent.clear()

    def recent(self, model: LoadedModel) -> Float32:
        """(m, d) float32: the newest vectors that were noted with this model's retriever."""
        if model.retriever is not self._of or not self._recent:
            return np.zeros((0, model.arrays.factors.shape[1]), dtype=np.float32)
        return np.stack(self._recent)

    async def look(self) -> Plan | None:
        """Measures once, and swaps the plan if that helps; returns what was measured, None if there is too little to say."""
        loaded = self._current()
        if loaded is None or loaded[0] is not self._of or len(self._vectors) < QUERY_COUNT_MIN:
            return None
        retriever, factors, norms, hidden = loaded
        queries = np.stack(self._vectors)
        self._start_over()
        # A retriever of its own: the scratch memory of the loaded one is the event loop's.
        found, better = await self._background.run(
            _look, retriever.clone(), factors, norms, queries, hidden.copy()
        )
        hidden_share = float(np.count_nonzero(hidden)) / max(1, len(factors))
        metrics.RETRIEVAL_RECALL.set(found.recall_mean)
        metrics.RETRIEVAL_HIDDEN_SHARE.set(hidden_share)
        if better is not None:
            retriever.use(better)
            structlog.get_logger().warning(
                "retrieval plan changed: its recall had fallen",
                recall=found.recall_mean,
                hidden_share=round(hidden_share, 3),
                before=in_words(found),
                plan=in_words(better),
            )
        return better or found

    def _start_over(self) -> None:
        self._vectors, self._seen_count = [], 0


def watched(
    models: ModelStore, eligibility: EligibilityCache
) -> tuple[Retriever, Float32, Float32, Mask] | None:
    """What a look looks at: the model that answers now, and what is hidden without any filter."""
    model = models.current
    if model is None:
        return None
    arrays = model.arrays
    return model.retriever, arrays.factors, arrays.factor_norms, eligibility.of(model, "").hidden


def _look(
    retriever: Retriever, factors: Float32, norms: Float32, queries: Float32, hidden: Mask
) -> tuple[Plan, Plan | None]:
    """The loaded plan as it is worth today, and the one to take instead, if there is a better one."""
    hidden = hidden if hidden.any() else NO_MASK
    exact = exact_answers(factors, norms, queries, hidden)
    found = measure(retriever.plan, retriever, factors, exact, hidden)
    if found.recall_mean >= RECALL_TARGET or retriever.layout is None:
        return found, None
    better = choose(retriever, factors, exact, hidden)
    if better.recall_mean <= found.recall_mean:
        return found, None
    return found, timed(better, retriever, exact)
