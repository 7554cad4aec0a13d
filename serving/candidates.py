"""The union of the sources, by item key: personal, similar, trending, popular, new; each item remembers who named it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Source

from serving import limits
from serving.catalogue import Catalogue
from serving.eligibility import BlockedKeys, Eligible
from serving.kernels import unite
from serving.model import LoadedModel
from serving.profile import Ring
from serving.trending import TrendingList
from vectorizer import Candidates as Found
from vectorizer import gather
from vectorizer.limits import CANDIDATE_COUNT_MAX
from vectorizer.sources import PERSONAL, POPULAR, SIMILAR, TRANSITION

# Bits beyond the vectorizer's four.
TRENDING, NEW = 16, 32
SLOT_COUNT = 4 * CANDIDATE_COUNT_MAX  # of the hash table that knows what is in the list already
NO_KEYS: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
NO_BITS: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)

# Who is named when several found an item: the first of these.
_PRECEDENCE = (
    (PERSONAL, Source.SOURCE_PERSONAL),
    (TRANSITION, Source.SOURCE_SIMILAR),
    (SIMILAR, Source.SOURCE_SIMILAR),
    (TRENDING, Source.SOURCE_TRENDING),
    (POPULAR, Source.SOURCE_POPULAR),
    (NEW, Source.SOURCE_NEW),
)


def _source_table() -> NDArray[np.uint8]:
    table: list[int] = []
    for bits in range(64):
        named = [source for bit, source in _PRECEDENCE if bits & bit]
        table.append(named[0] if named else Source.SOURCE_UNSPECIFIED)
    return np.array(table, dtype=np.uint8)


SOURCE_OF_BITS = _source_table()


@dataclass(frozen=True)
class Candidates:
    """k items to choose from."""

    keys: NDArray[np.int32]  # (k,) int32, distinct
    rows: NDArray[np.int32]  # (k,) int32 rows of the model, -1 where it does not know the key
    bits: NDArray[np.uint8]  # (k,) uint8, see SOURCE_OF_BITS


class Gatherer:
    """Merges sources into one list. Holds scratch arrays: for one request at a time."""

    def __init__(self) -> None:
        self._slots = np.zeros(SLOT_COUNT, dtype=np.int32)
        self._places = np.zeros(SLOT_COUNT, dtype=np.int32)
        self._keys = np.zeros(CANDIDATE_COUNT_MAX, dtype=np.int32)
        self._rows = np.zeros(CANDIDATE_COUNT_MAX, dtype=np.int32)
        self._bits = np.zeros(CANDIDATE_COUNT_MAX, dtype=np.uint8)

    def gather(
        self,
        model: LoadedModel,
        ring: Ring,
        rows: NDArray[np.int32],
        vector: NDArray[np.float32],
        eligible: Eligible,
        blocked_keys: NDArray[np.int32],
        blocked: BlockedKeys,
        trending: TrendingList,
        catalogue: Catalogue,
        wanted: Wanted,
    ) -> Candidates:
        """The candidates of one request: rows (m,) int32 are the ring's, vector (d,) is the user's.

        blocked_keys (b,) int32 are in `blocked`. At least `wanted.count` items, if there are so many.
        """
        blocked_rows = model.rows_of(blocked_keys)
        found = _modelled(model, ring, rows, vector, eligible, blocked_rows, wanted.personal)
        own = np.ascontiguousarray(ring.keys[::-1]) if wanted.include_seen else NO_KEYS
        room = limits.TRENDING_SHARE_COUNT if wanted.personal else limits.TRENDING_COUNT_MAX
        size = unite(
            found.rows,
            found.sources,
            model.arrays.item_keys,
            model.row_by_key,
            (trending.keys, own, _fresh(eligible, catalogue, wanted.time_s)),
            (TRENDING, PERSONAL, NEW),
            (room, len(own), limits.NEW_COUNT_MAX),
            (eligible.popular_keys, eligible.unmodelled_keys),
            (POPULAR, NEW),
            wanted.count,
            eligible.mask,
            blocked.table,
            *self._scratch(),
        )
        return self._taken(size)

    def gather_without_model(
        self, eligible: Eligible, blocked: BlockedKeys, trending: TrendingList, count: int
    ) -> Candidates:
        """Trending items, then the newest: at most `count`."""
        size = unite(
            NO_KEYS,
            NO_BITS,
            NO_KEYS,
            NO_KEYS,
            (trending.keys, NO_KEYS, NO_KEYS),
            (TRENDING, PERSONAL, NEW),
            (count, 0, 0),
            (NO_KEYS, eligible.unmodelled_keys),
            (POPULAR, NEW),
            count,
            eligible.mask,
            blocked.table,
            *self._scratch(),
        )
        return self._taken(size)

    def _scratch(self) -> tuple[NDArray[Any], ...]:
        return self._slots, self._places, self._keys, self._rows, self._bits

    def _taken(self, size: int) -> Candidates:
        return Candidates(self._keys[:size].copy(), self._rows[:size].copy(), self._bits[:size].copy())


@dataclass(frozen=True)
class Wanted:
    """What of a request the gatherer needs to know."""

    count: int
    include_seen: bool
    personal: bool  # whether the user's vector says anything
    time_s: float


def _fresh(eligible: Eligible, catalogue: Catalogue, time_s: float) -> NDArray[np.int32]:
    # A few more than fit, since some will be blocked; the list is newest first.
    head = eligible.unmodelled_keys[: 4 * limits.NEW_COUNT_MAX]
    if not len(head):
        return head
    return head[catalogue.created_s[head] >= time_s - limits.NEW_AGE_S_MAX]


def _modelled(
    model: LoadedModel,
    ring: Ring,
    rows: NDArray[np.int32],
    vector: NDArray[np.float32],
    eligible: Eligible,
    blocked_rows: NDArray[np.int32],
    personal: bool,
) -> Found:
    """What the model finds: the user's own by retrieval, then what follows and resembles the ring's items."""
    found = NO_KEYS
    if personal:
        own = np.concatenate([blocked_rows, rows])
        found = model.retriever.search(
            vector, limits.PERSONAL_SOURCE_COUNT, eligible.hidden, own, eligible.shown
        )
    return gather(
        rows,
        ring.codes,
        ring.times,
        vector,
        model.arrays,
        model.workspace,
        eligible.hidden,
        blocked_rows,
        found,
    )
