"""The union of the sources, by item key: personal, similar, trending, popular, new; each item remembers who named it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Source

from serving import limits
from serving.catalogue import Catalogue
from serving.eligibility import Eligible
from serving.kernels import clear_slots, fill_keys, merge_keys
from serving.model import LoadedModel
from serving.profile import Ring
from serving.trending import TrendingList
from vectorizer import NO_MASK, gather
from vectorizer.limits import CANDIDATE_COUNT_MAX, PERSONAL_COUNT_MAX
from vectorizer.sources import PERSONAL, POPULAR, SIMILAR, TRANSITION

# Bits beyond the vectorizer's four.
TRENDING, NEW = 16, 32
INDEX_WIDTH = 4 * PERSONAL_COUNT_MAX  # by direction, so that the best by inner product are among them

# Who is named when several found an item: the first of these.
_PRECEDENCE = (
    (PERSONAL, Source.SOURCE_PERSONAL),
    (TRANSITION, Source.SOURCE_SIMILAR),
    (SIMILAR, Source.SOURCE_SIMILAR),
    (TRENDING, Source.SOURCE_TRENDING),
    (POPULAR, Source.SOURCE_POPULAR),
    (NEW, Source.SOURCE_NEW),
)


def _source_table() -> list[Source.ValueType]:
    table = []
    for bits in range(64):
        named = [source for bit, source in _PRECEDENCE if bits & bit]
        table.append(named[0] if named else Source.SOURCE_UNSPECIFIED)
    return table


SOURCE_OF_BITS = _source_table()


@dataclass(frozen=True)
class Candidates:
    """k items to choose from."""

    keys: NDArray[np.int32]  # (k,) int32, distinct
    rows: NDArray[np.int32]  # (k,) int32 rows of the model, -1 where it does not know the key
    bits: NDArray[np.uint8]  # (k,) uint8, see SOURCE_OF_BITS


class Gatherer:
    """Merges sources into one list. Holds scratch arrays over keys: for one request at a time."""

    def __init__(self) -> None:
        self._slots: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._keys = np.zeros(CANDIDATE_COUNT_MAX, dtype=np.int32)
        self._bits = np.zeros(CANDIDATE_COUNT_MAX, dtype=np.uint8)
        self._size = 0

    def gather(
        self,
        model: LoadedModel,
        ring: Ring,
        rows: NDArray[np.int32],
        vector: NDArray[np.float32],
        eligible: Eligible,
        blocked: NDArray[np.uint8],
        blocked_keys: NDArray[np.int32],
        trending: TrendingList,
        catalogue: Catalogue,
        request: Wanted,
    ) -> Candidates:
        """The candidates of one request: rows (m,) int32 are the ring's, vector (d,) is the user's.

        blocked (size,) uint8 marks what blocked_keys (b,) lists. At least `request.count` items, if there are so many.
        """
        self._begin(catalogue.size)
        hidden = model.rows_of(blocked_keys)
        hidden = np.concatenate([eligible.hidden_rows, hidden[hidden >= 0]])
        personal = _from_index(model, vector, hidden, rows)
        found = gather(
            rows, ring.codes, ring.times, vector, model.arrays, model.workspace, NO_MASK, hidden, personal
        )
        self._take(model.arrays.item_keys[found.rows], found.sources)
        room = limits.TRENDING_COUNT_MAX
        self._merge(trending.keys, TRENDING, room, eligible, blocked)
        if request.include_seen:
            newest_first = np.ascontiguousarray(
                ring.keys[::-1]
            )  # numba compiles once more for strided arrays
            self._merge(newest_first, PERSONAL, len(ring.keys), eligible, blocked)
        self._merge(_fresh(eligible, catalogue, request.time_s), NEW, limits.NEW_COUNT_MAX, eligible, blocked)
        self._fill(model.popular_keys, POPULAR, request.count - self._size, eligible, blocked)
        self._fill(eligible.unmodelled_keys, NEW, request.count - self._size, eligible, blocked)
        return self._end(model)

    def gather_without_model(
        self,
        eligible: Eligible,
        blocked: NDArray[np.uint8],
        trending: TrendingList,
        catalogue: Catalogue,
        count: int,
    ) -> Candidates:
        """Trending items, then the newest: at most `count`."""
        self._begin(catalogue.size)
        self._merge(trending.keys, TRENDING, count, eligible, blocked)
        self._fill(eligible.unmodelled_keys, NEW, count - self._size, eligible, blocked)
        return self._end(None)

    def _begin(self, size: int) -> None:
        clear_slots(self._keys, self._size, self._slots)  # what a request that failed has left
        self._size = 0
        if size > len(self._slots):
            self._slots = np.zeros(2 * size, dtype=np.int32)

    def _take(self, keys: NDArray[np.int32], bits: NDArray[np.uint8]) -> None:
        # The vectorizer has seen to it that these are distinct and eligible.
        count = len(keys)
        self._keys[:count], self._bits[:count], self._size = keys, bits, count
        self._slots[keys] = np.arange(1, count + 1, dtype=np.int32)

    def _merge(
        self, keys: NDArray[np.int32], bit: int, room: int, eligible: Eligible, blocked: NDArray[np.uint8]
    ) -> None:
        kept = (self._slots, self._keys, self._bits, self._size)
        self._size = merge_keys(keys, np.uint8(bit), room, eligible.mask, blocked, *kept)

    def _fill(
        self, keys: NDArray[np.int32], bit: int, room: int, eligible: Eligible, blocked: NDArray[np.uint8]
    ) -> None:
        if room > 0:
            kept = (self._slots, self._keys, self._bits, self._size)
            self._size = fill_keys(keys, np.uint8(bit), room, eligible.mask, blocked, *kept)

    def _end(self, model: LoadedModel | None) -> Candidates:
        clear_slots(self._keys, self._size, self._slots)
        keys, bits = self._keys[: self._size].copy(), self._bits[: self._size].copy()
        self._size = 0
        rows = model.rows_of(keys) if model else np.full(len(keys), -1, dtype=np.int32)
        return Candidates(keys, rows, bits)


@dataclass(frozen=True)
class Wanted:
    """What of a request the gatherer needs to know."""

    count: int
    include_seen: bool
    time_s: float


def _fresh(eligible: Eligible, catalogue: Catalogue, time_s: float) -> NDArray[np.int32]:
    # A few more than fit, since some will be blocked; the list is newest first.
    head = eligible.unmodelled_keys[: 4 * limits.NEW_COUNT_MAX]
    return head[catalogue.created_s[head] >= time_s - limits.NEW_AGE_S_MAX]


def _from_index(
    model: LoadedModel, vector: NDArray[np.float32], hidden: NDArray[np.int32], ring_rows: NDArray[np.int32]
) -> NDArray[np.int32] | None:
    """The best rows by inner product among those that lie in the vector's direction; None: scan exactly.

    So are catalogues scanned that are small, and narrow filters, of which too few pass among those nearby.
    """
    if model.index is None or not vector.any():
        return None
    near = model.index.nearest(vector, INDEX_WIDTH)
    near = near[~np.isin(near, np.concatenate([hidden, ring_rows]))]
    if len(near) < min(PERSONAL_COUNT_MAX, model.arrays.item_count - len(hidden) - len(ring_rows)):
        return None
    order = np.argsort(-(model.arrays.factors[near] @ vector), kind="stable")
    return near[order[:PERSONAL_COUNT_MAX]]
