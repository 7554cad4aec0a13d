"""The rules of one request: what its surface says, and over that what the request itself says.

The request's own fields win; where both can hold at once, both do: an item must pass both filters, and both have boosts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from reco.ranking.v1.ranking_service_pb2 import RecommendRequest, Source

from serving.limits import PAGE_SIZE_DEFAULT

BY_SCORE, BY_TURNS = "score", "turns"
SOURCES: Final = ("personal", "similar", "trending", "popular", "new", "promoted")
QUOTA_SOURCES: Final = SOURCES[:-1]  # what is promoted has shares
CAP_SPARE_FACTOR, CAP_SPARE_COUNT_MAX = 4, 400  # candidates for each place under a cap; in all
ROTATION_TIMES = 5  # its `time_s`: what was served before weighs less than one in a hundred
REQUEST: Final = "request"  # the name of a boost of the request's own; no rule in a file is called so


@dataclass(frozen=True)
class Boosting:
    """Items that a filter holds for count for more, or for less: `weight` parts of the distance from best to worst."""

    name: str
    filter: str
    weight: float  # -1 to 1


@dataclass(frozen=True)
class Pin:
    """An item and its place in the list, from 1 on; later pages go on counting."""

    name: str
    item_id: str
    place: int


@dataclass(frozen=True)
class Promotion:
    """Items that get a share of the places, no more and no less: those of a filter, or those that are named."""

    name: str
    share: float  # above 0, up to 1
    filter: str = ""
    item_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Served:
    """An item that was served to the same subject is left out: for so long, and while it is among the last so many."""

    window_s: int
    count: int


@dataclass(frozen=True)
class Rotation:
    """Each time that an item was served lately takes `rate` parts of the distance from best to worst off its score, fading
    with exp(-age / time_s)."""

    rate: float
    time_s: int


@dataclass(frozen=True)
class Quotas:
    """At most so many candidates of each source that named them first; None: as without a rule."""

    personal: int | None = None
    similar: int | None = None
    trending: int | None = None
    popular: int | None = None
    new: int | None = None

    @property
    def by_source(self) -> list[tuple[Source.ValueType, int]]:
        """The contract's source and its quota, of those that have one."""
        said = ((name, getattr(self, name)) for name in QUOTA_SOURCES)
        return [(Source.Value(f"SOURCE_{name.upper()}"), quota) for name, quota in said if quota is not None]


NO_QUOTAS: Final = Quotas()


@dataclass(frozen=True)
class Rules:
    """Everything that is decided by rules, for one request."""

    surface: str = ""
    version: str = ""  # of the surface file
    page_size: int = PAGE_SIZE_DEFAULT
    filter: str = ""
    diversity: float = 0.0
    max_per_category: int = 0  # 0: no limit
    min_score: float | None = None
    include_seen: bool = False
    exploration: float = 0.0  # share of the places that are drawn
    merging: str = BY_SCORE
    turns: tuple[str, ...] = ()  # SOURCES in the order in which they take turns, where merging is by turns
    quotas: Quotas = NO_QUOTAS
    boosts: tuple[Boosting, ...] = ()
    pins: tuple[Pin, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    served: Served | None = None
    rotation: Rotation | None = None

    @cached_property
    def is_plain(self) -> bool:
        """Whether the best scores stand in their order, and that is all; a least score aside."""
        moves = self.diversity or self.max_per_category or self.exploration or self.merging != BY_SCORE
        return not (moves or self.boosts or self.pins or self.promotions or self.rotation)

    @cached_property
    def needs_served(self) -> bool:
        """Whether it has to be known what was served lately: then it has to be written, too."""
        return self.served is not None or self.rotation is not None

    @cached_property
    def served_ttl_s(self) -> int:
        """How long it has to be known what was served."""
        rotation_s = ROTATION_TIMES * self.rotation.time_s if self.rotation else 0
        return max(rotation_s, self.served.window_s if self.served else 0, 1)

    @cached_property
    def boost_filters(self) -> tuple[str, ...]:
        """The filters that single candidates are asked about."""
        return tuple(dict.fromkeys(boost.filter for boost in self.boosts))

    @cached_property
    def promotion_filters(self) -> tuple[str, ...]:
        """For each promotion the filter of its items that may be answered; empty where items are named."""
        return tuple(both(self.filter, each.filter) if each.filter else "" for each in self.promotions)

    @cached_property
    def eligible_filters(self) -> tuple[str, ...]:
        """The filters whose items are looked for: what may be answered at all, and of that what is promoted."""
        return tuple(dict.fromkeys((self.filter, *filter(None, self.promotion_filters))))

    @cached_property
    def candidate_count(self) -> int:
        """How many candidates a page wants at least: with caps, some of them will not fit."""
        spare = CAP_SPARE_FACTOR if self.max_per_category else 1
        return max(self.page_size, min(spare * self.page_size, CAP_SPARE_COUNT_MAX))


PLAIN: Final = Rules()


def both(first: str, second: str) -> str:
    """The filter that holds where both do."""
    return f"({first}) AND ({second})" if first and second else first or second


def over(rules: Rules, request: RecommendRequest) -> Rules:
    """A surface's rules, and over them what the request says itself."""
    boosts = tuple(Boosting(REQUEST, boost.filter, boost.weight) for boost in request.boosts)
    return replace(
        rules,
        surface=request.surface,
        page_size=request.page_size or rules.page_size,
        filter=both(rules.filter, request.filter),
        diversity=request.diversity if request.HasField("diversity") else rules.diversity,
        max_per_category=request.max_per_category or rules.max_per_category,
        min_score=request.min_score if request.HasField("min_score") else rules.min_score,
        include_seen=request.include_seen or rules.include_seen,
        boosts=rules.boosts + boosts,
    )
