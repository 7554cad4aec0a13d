"""The union of the sources, by item key: personal, similar, trending, promoted, popular, new; each item remembers who named it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Source

from serving import limits
from serving.eligibility import BlockedKeys
from serving.eligible import Eligible
from serving.kernels import unite
from serving.model import LoadedModel
from serving.profile import Ring
from serving.rules import NO_QUOTAS, Quotas
from serving.trending import NOTHING, TrendingList
from vectorizer import Candidates as Found
from vectorizer import gather
from vectorizer.limits import CANDIDATE_COUNT_MAX, CANDIDATE_LIMIT
from vectorizer.request import QUOTAS
from vectorizer.sources import PERSONAL, POPULAR, SIMILAR, TRANSITION

# Bits beyond the vectorizer's four.
TRENDING, NEW, PROMOTED = 16, 32, 64
SLOT_COUNT = 4 * CANDIDATE_COUNT_MAX  # of the hash table that knows what is in the list already
NO_KEYS: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
NO_BITS: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
NO_PRODUCTS: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

# Who is named when several found an item: the first of these.
PRECEDENCE = (
    (PROMOTED, Source.SOURCE_PROMOTED),
    (PERSONAL, Source.SOURCE_PERSONAL),
    (TRANSITION, Source.SOURCE_SIMILAR),
    (SIMILAR, Source.SOURCE_SIMILAR),
    (TRENDING, Source.SOURCE_TRENDING),
    (POPULAR, Source.SOURCE_POPULAR),
    (NEW, Source.SOURCE_NEW),
)


def sources_of(bits: int) -> list[Source.ValueType]:
    """Every source that has its bit set, by precedence."""
    return list(dict.fromkeys(source for bit, source in PRECEDENCE if bits & bit))


SOURCE_OF_BITS: NDArray[np.uint8] = np.array(
    [(sources_of(bits) or [Source.SOURCE_UNSPECIFIED])[0] for bits in range(2 * PROMOTED)], dtype=np.uint8
)


@dataclass(frozen=True)
class Candidates:
    """k items to choose from."""

    keys: NDArray[np.int32]  # (k,) int32, distinct
    rows: NDArray[np.int32]  # (k,) int32 rows of the model, -1 where it does not know the key
    bits: NDArray[np.uint8]  # (k,) uint8, see SOURCE_OF_BITS
    retrieved: NDArray[np.int32] = field(
        default_factory=lambda: NO_KEYS
    )  # (r,) rows that retrieval found, best first

    def within(self, quotas: Quotas, count: int) -> Candidates:
        """At most so many of each source that named them first; the others give way only where there are `count` without them."""
        if quotas == NO_QUOTAS:
            return self
        sources, kept = SOURCE_OF_BITS[self.bits], np.ones(len(self.keys), dtype=np.bool_)
        for source, quota in quotas.by_source:
            kept[np.flatnonzero(sources == source)[quota:]] = False
        missing = count - int(np.count_nonzero(kept))
        if missing > 0:
            kept[np.flatnonzero(~kept)[:missing]] = True
        return replace(self, keys=self.keys[kept], rows=self.rows[kept], bits=self.bits[kept])


@dataclass(frozen=True)
class Personal:
    """What is known of who asks, in the model's terms."""

    ring: Ring
    rows: NDArray[np.int32]  # (m,) int32, of the ring's items
    vector: NDArray[np.float32]  # (d,) float32; zeros: nothing is known
    found: bool  # whether the vector says anything


@dataclass(frozen=True)
class Room:
    """How many candidates each source has room for; how wide retrieval looks."""

    model: int = CANDIDATE_LIMIT  # of the model's own sources together
    quotas: NDArray[np.int32] = field(default_factory=lambda: QUOTAS)  # (3,) personal, transition, similar
    trending: int = limits.TRENDING_SHARE_COUNT  # beside a personal list, which they must not crowd out
    new: int = limits.NEW_COUNT_MAX
    retrieval_width: float = 1.0  # 1: as the plan has it; 0: the model's own sources are left out

    def within(self, quotas: Quotas) -> Room:
        """The same with the room that a surface's quotas ask for; `Candidates.within` sees to it that it is no more."""
        if quotas == NO_QUOTAS:
            return self
        personal, transition, similar = self.quotas.tolist()
        if quotas.similar is not None:  # what follows and what resembles, as the two stand to each other
            followed = quotas.similar * transition // max(1, transition + similar)
            transition, similar = followed, quotas.similar - followed
        personal = personal if quotas.personal is None else quotas.personal
        return replace(
            self,
            quotas=np.array([personal, transition, similar], dtype=np.int32),
            trending=self.trending
            if quotas.trending is None
            else min(quotas.trending, limits.TRENDING_COUNT_MAX),
            new=self.new if quotas.new is None else min(quotas.new, limits.NEW_COUNT_MAX),
        )


@dataclass(frozen=True)
class Lists:
    """What others than the model name, best first, each (l,) int32 keys."""

    trending: TrendingList = NOTHING
    live: NDArray[np.int32] = field(default_factory=lambda: NO_KEYS)  # new items in the user's direction
    own: NDArray[np.int32] = field(
        default_factory=lambda: NO_KEYS
    )  # what the user has touched, if he wants it again
    promoted: NDArray[np.int32] = field(default_factory=lambda: NO_KEYS)
    fresh: NDArray[np.int32] = field(default_factory=lambda: NO_KEYS)  # that no model knows, newest first


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
        personal: Personal,
        lists: Lists,
        room: Room,
        eligible: Eligible,
        blocked_keys: NDArray[np.int32],
        blocked: BlockedKeys,
        count: int,
    ) -> Candidates:
        """The candidates of one request; at least `count`, if there are so many. blocked_keys (b,) int32 are in `blocked`."""
        blocked_rows = model.rows_of(blocked_keys)
        retrieved = _retrieved(model, personal, room, eligible, blocked_rows)
        found = _modelled(model, personal, room, eligible, blocked_rows, retrieved)
        trending = room.trending if personal.found else limits.TRENDING_COUNT_MAX
        return self._united(
            (found.rows, found.sources, model.arrays.item_keys, model.row_by_key),
            (lists.live, lists.trending.keys, lists.own, lists.promoted, lists.fresh),
            (len(lists.live), trending, len(lists.own), len(lists.promoted), room.new),
            (eligible.popular_keys, eligible.unmodelled_keys),
            count,
            eligible,
            blocked,
            retrieved,
        )

    def gather_without_model(
        self, lists: Lists, eligible: Eligible, blocked: BlockedKeys, count: int
    ) -> Candidates:
        """Trending and promoted items, then the newest: at most `count` beside the promoted."""
        return self._united(
            (NO_KEYS, NO_BITS, NO_KEYS, NO_KEYS),
            (NO_KEYS, lists.trending.keys, NO_KEYS, lists.promoted, NO_KEYS),
            (0, count, 0, len(lists.promoted), 0),
            (NO_KEYS, eligible.unmodelled_keys),
            count,
            eligible,
            blocked,
        )

    def _united(
        self,
        modelled: tuple[NDArray[Any], ...],
        lists: tuple[NDArray[np.int32], ...],
        rooms: tuple[int, ...],
        fills: tuple[NDArray[np.int32], ...],
        count: int,
        eligible: Eligible,
        blocked: BlockedKeys,
        retrieved: NDArray[np.int32] = NO_KEYS,
    ) -> Candidates:
        found_rows, found_bits, item_keys, row_by_key = modelled
        slots, places, keys, rows, bits = self._slots, self._places, self._keys, self._rows, self._bits
        size = unite(
            found_rows,
            found_bits,
            item_keys,
            row_by_key,
            lists,
            (PERSONAL, TRENDING, PERSONAL, PROMOTED, NEW),
            rooms,
            fills,
            (POPULAR, NEW),
            count,
            eligible.mask,
            blocked.table,
            slots,
            places,
            keys,
            rows,
            bits,
        )
        return Candidates(keys[:size].copy(), rows[:size].copy(), bits[:size].copy(), retrieved)


def fresh_keys(eligible: Eligible, created_s: NDArray[np.float64], time_s: float) -> NDArray[np.int32]:
    """The newest items that no model knows, if they are news: created_s (size,) float64 by key."""
    # A few more than fit, since some will be blocked; the list is newest first.
    head = eligible.unmodelled_keys[: 4 * limits.NEW_COUNT_MAX]
    if not len(head):
        return head
    return head[created_s[head] >= time_s - limits.NEW_AGE_S_MAX]


def _retrieved(
    model: LoadedModel,
    personal: Personal,
    room: Room,
    eligible: Eligible,
    blocked_rows: NDArray[np.int32],
) -> NDArray[np.int32]:
    """The user's own by retrieval, best first: (r,) int32 rows."""
    if room.retrieval_width <= 0 or not personal.found:
        return NO_KEYS
    return model.retriever.search(
        personal.vector,
        limits.PERSONAL_SOURCE_COUNT,
        eligible.hidden,
        np.concatenate([blocked_rows, personal.rows]),
        eligible.shown,
        room.retrieval_width,
    )


def _modelled(
    model: LoadedModel,
    personal: Personal,
    room: Room,
    eligible: Eligible,
    blocked_rows: NDArray[np.int32],
    retrieved: NDArray[np.int32],
) -> Found:
    """What the model finds: the retrieved, then what follows and resembles the ring's items."""
    if room.retrieval_width <= 0:
        return Found(NO_KEYS, NO_BITS)
    ring = personal.ring
    return gather(
        personal.rows,
        ring.codes,
        ring.times,
        personal.vector,
        model.arrays,
        model.workspace,
        eligible.hidden,
        blocked_rows,
        retrieved,
        room.quotas,
        room.model,
        eligible.popular_rows,
    )
