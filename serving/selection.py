"""Which candidates are answered, and in which order: the best scores, or what the rules make of them.

Rules on scores come first (turns of sources, boosts, rotation), then the page is filled place by place: a pin where one is told
to stand, else whose turn it is (a promotion's or nobody's), of those the best that fits (caps, diversity), or one that is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import AppliedRule, Source

from runtime.errors import CallerError
from serving import select_kernels
from serving.bitmaps import Bitmaps
from serving.candidates import SOURCE_OF_BITS, Candidates
from serving.catalogue import Catalogue
from serving.catalogue_warm import CODE_TYPES
from serving.kernels import select_top
from serving.model import LoadedModel
from serving.rules import BY_TURNS, PLAIN, REQUEST, SOURCES, Rotation, Rules
from serving.served import NOTHING, ServedRing

Places = NDArray[np.int64]
Scores = NDArray[np.float32]

NO_FACTORS = np.zeros((0, 1), dtype=np.float32)
NO_SHARES = np.zeros(1)
NO_WAYS: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
SPAN_MARGIN: Final = 1.0001  # so that a weight of 1 is above everything else, and not beside it, in float32
# Place of a source in SOURCES, by its number in the contract.
_NUMBER_OF = {name: number for number, name in enumerate(SOURCES)}
_SOURCE_NUMBERS: NDArray[np.int64] = np.array(
    [_NUMBER_OF.get(name.removeprefix("SOURCE_").lower(), 0) for name in Source.keys()]  # noqa: SIM118 - an enum's own
)


@dataclass(frozen=True)
class SelectionContext:
    """What selection asks beside the candidates. For use before the next await."""

    catalogue: Catalogue
    model: LoadedModel | None = None
    bitmaps: Bitmaps | None = None  # of boosts' and promotions' filters; not needed without any
    served: ServedRing = NOTHING
    time_s: float = 0.0
    shown_count: int = 0  # items on earlier pages
    seed: int = 0  # of what is drawn: `seed_of` the answer's id


@dataclass(frozen=True)
class Selected:
    """A page."""

    places: Places  # (c,) int64 in the candidates, c <= page_size, in order
    scores: Scores  # (k,) float32 of all candidates, after the rules
    propensities: NDArray[np.float64] | None  # (c,) of each place's item; None where nothing is drawn
    applied: Applied
    is_last: bool  # there is no use in asking for another page


@dataclass(frozen=True)
class Applied:
    """What the rules did, by places in the candidates; for Explain."""

    rules: Rules = PLAIN
    effects: Sequence[tuple[str, str, Scores]] = ()  # kind, name, (k,) what it added to the score
    places: Places = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    ways: NDArray[np.uint8] = field(default_factory=lambda: NO_WAYS)  # (c,) how each place was filled
    kinds: NDArray[np.int8] | None = None  # (k,) one more than the number of its promotion, 0: none's
    keys: NDArray[np.int32] | None = None
    catalogue: Catalogue | None = None

    def of(self, place: int) -> list[AppliedRule]:
        """The rules that moved a candidate, in their order."""
        found = [
            AppliedRule(kind=kind, name=name, effect=float(added[place]))
            for kind, name, added in self.effects
            if added[place]
        ]
        at = np.flatnonzero(self.places == place)
        if len(at) and len(self.ways):
            found += self._way(place, int(at[0]))
        return found

    def is_category_full(self, place: int) -> bool:
        """Whether a candidate that is not on the page found one of its categories full; before the next change of items."""
        if not self.rules.max_per_category or self.catalogue is None or self.keys is None:
            return False
        column = self.catalogue.categories
        taken = [name for chosen in self.places for name in column.values(int(self.keys[chosen]))]
        own = column.values(int(self.keys[place]))
        return any(taken.count(name) >= self.rules.max_per_category for name in own)

    def _way(self, place: int, at: int) -> list[AppliedRule]:
        way = int(self.ways[at])
        if way == select_kernels.PINNED and self.catalogue is not None and self.keys is not None:
            item_id = self.catalogue.id_of(int(self.keys[place]))
            name = next((pin.name for pin in self.rules.pins if pin.item_id == item_id), "")
            return [AppliedRule(kind="pin", name=name, effect=at + 1)]
        if way == select_kernels.PROMOTED and self.kinds is not None:
            name = self.rules.promotions[self.kinds[place] - 1].name
            return [AppliedRule(kind="promotion", name=name, effect=at + 1)]
        if way == select_kernels.DRAWN:
            return [AppliedRule(kind="exploration", name=self.rules.surface, effect=at + 1)]
        return []


NOTHING_APPLIED: Final = Applied()


def select(candidates: Candidates, scores: Scores, rules: Rules, context: SelectionContext) -> Selected:
    """The page that the rules make; equal scores stand in the order of the candidates."""
    if rules.is_plain:
        places = best_places(scores, rules.page_size, rules.min_score)
        return Selected(places, scores, None, NOTHING_APPLIED, len(places) < rules.page_size)
    effects = _effects(candidates, scores, rules, context)
    after = scores
    for *_, added in effects:
        after = after + added
    # What is answered scores as much as was asked for; a place in turn is no score to be compared with anything.
    judged = scores if rules.merging == BY_TURNS else after
    allowed = judged >= np.float32(-np.inf if rules.min_score is None else rules.min_score)
    return _filled(candidates, after, allowed, effects, rules, context)


def best_places(scores: Scores, count: int, min_score: float | None) -> Places:
    """(c,) int64 places of the best scores, c <= count."""
    chosen = np.empty(min(count, len(scores)), dtype=np.int64)
    return chosen[: select_top(scores, -np.inf if min_score is None else min_score, chosen)]


def seed_of(answer_id: bytes) -> int:
    """What an answer draws by: its id, so that it can be drawn again."""
    return int.from_bytes(answer_id[:8], "little")


def _effects(
    candidates: Candidates, scores: Scores, rules: Rules, context: SelectionContext
) -> list[tuple[str, str, Scores]]:
    if not len(scores):
        return []
    found: list[tuple[str, str, Scores]] = []
    if rules.merging == BY_TURNS:
        found.append(("turns", rules.surface, in_turns(candidates.bits, scores, rules.turns) - scores))
        scores = scores + found[0][2]
    span = np.float32(SPAN_MARGIN * (float(scores.max() - scores.min()) or 1.0))
    for boost in rules.boosts:
        holds = _holds(boost.name, boost.filter, candidates, context)
        found.append(("boost", boost.name, holds * (np.float32(boost.weight) * span)))
    if rules.rotation is not None and len(context.served.keys):
        faded = context.served.faded(candidates.keys, context.time_s, rules.rotation.time_s)
        name = rules.surface or "default"
        found.append(("rotation", name, faded * np.float32(-rules.rotation.rate * float(span))))
    return found


def in_turns(bits: NDArray[np.uint8], scores: Scores, turns: Sequence[str]) -> Scores:
    """(k,) float32 from 1 down: the best of each source in turn, then the second best of each, and so on.

    An item is its first source's; a source that `turns` does not name comes after all that it does, once they have nothing.
    """
    order = np.full(len(SOURCES), len(SOURCES))
    order[[_NUMBER_OF[name] for name in turns]] = np.arange(len(turns))
    turn = order[_SOURCE_NUMBERS[SOURCE_OF_BITS[bits]]]
    by_turn = np.lexsort((-scores, turn))
    first = np.searchsorted(turn[by_turn], np.arange(len(SOURCES) + 1))
    rank = np.empty(len(scores), dtype=np.int64)
    rank[by_turn] = np.arange(len(scores)) - first[turn[by_turn]]
    rank[turn == len(SOURCES)] += len(scores)
    out = np.empty(len(scores), dtype=np.float32)
    out[np.lexsort((turn, rank))] = np.linspace(1, 0, len(scores), endpoint=False, dtype=np.float32)
    return out


def _filled(
    candidates: Candidates,
    scores: Scores,
    allowed: NDArray[np.bool_],
    effects: list[tuple[str, str, Scores]],
    rules: Rules,
    context: SelectionContext,
) -> Selected:
    k, count = len(scores), min(rules.page_size, len(scores))
    kinds, shares = _promotions(candidates, rules, context)
    pins = _pins(candidates, rules, context, count)
    units, has_unit = _units(candidates, rules, context)
    offsets, numbers, taken = _categories(candidates, rules, context)
    passed = context.shown_count - sum(pin.place <= context.shown_count for pin in rules.pins)
    free, chosen, ways = (
        np.empty(k, dtype=np.bool_),
        np.empty(count, dtype=np.int64),
        np.empty(count, np.uint8),
    )
    propensities = np.empty(count)
    size = select_kernels.select_places(
        scores, allowed, pins, kinds, shares, np.zeros(len(shares), dtype=np.int64), passed if len(shares) > 1 else 0,
        float(rules.diversity), units, has_unit, context.catalogue.category_bits[candidates.keys],
        rules.max_per_category, offsets, numbers, taken,
        float(rules.exploration), np.uint64(context.seed), free, np.empty(k), np.empty(k), np.empty(k, dtype=np.int64),
        chosen, ways, propensities,
    )  # fmt: skip
    applied = Applied(rules, effects, chosen[:size], ways[:size], kinds, candidates.keys, context.catalogue)
    # A page that caps cut short goes on with the next, where they count anew; one that nothing is left for is the last.
    is_last = size == 0 or (size < rules.page_size and not bool((free & allowed).any()))
    drawn = propensities[:size] if rules.exploration > 0 else None
    return Selected(chosen[:size], scores, drawn, applied, is_last)


def _holds(
    name: str, filter_text: str, candidates: Candidates, context: SelectionContext
) -> NDArray[np.bool_]:
    assert context.bitmaps is not None, "rules with filters are asked with bitmaps"
    try:
        return context.bitmaps.of(filter_text).holds(candidates.keys)
    except CallerError:
        if name == REQUEST:
            raise
        # The operator's, not the caller's: no item has that attribute any more, or yet.
        return np.zeros(len(candidates.keys), dtype=np.bool_)


def _promotions(
    candidates: Candidates, rules: Rules, context: SelectionContext
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """(k,) whose each candidate is, (p + 1,) the shares, the rest first."""
    kinds = np.zeros(len(candidates.keys), dtype=np.int8)
    if not rules.promotions:
        return kinds, NO_SHARES
    listed = list(enumerate(zip(rules.promotions, rules.promotion_filters, strict=True), 1))
    for number, (promotion, filter_text) in reversed(listed):  # the first that holds has it
        if filter_text:
            kinds[_holds("", filter_text, candidates, context)] = number
        if promotion.item_ids:
            kinds[np.isin(candidates.keys, context.catalogue.keys_of(promotion.item_ids))] = number
    shares = [promotion.share for promotion in rules.promotions]
    return kinds, np.array([max(0.0, 1.0 - sum(shares)), *shares])


def _pins(candidates: Candidates, rules: Rules, context: SelectionContext, count: int) -> Places:
    """(>= count,) int64: the candidate pinned to each place of this page, then those of later pages in their order; -1 for none."""
    pins = np.full(count + len(rules.pins), -1, dtype=np.int64)
    if not rules.pins:
        return pins
    later = count
    for pin, key in zip(rules.pins, context.catalogue.find(pin.item_id for pin in rules.pins), strict=True):
        at, place = pin.place - 1 - context.shown_count, np.flatnonzero(candidates.keys == key)
        if at < 0 or not len(place):
            continue
        if at >= count:
            at, later = later, later + 1
        pins[at] = place[0]
    return pins


def _units(
    candidates: Candidates, rules: Rules, context: SelectionContext
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(k, d) float32 directions of the candidates, (k,) whether each has one; nothing without diversity."""
    rows = candidates.rows
    if rules.diversity <= 0 or context.model is None:
        return NO_FACTORS, np.zeros(len(rows), dtype=np.bool_)
    arrays = context.model.arrays
    units = np.empty((len(rows), arrays.factors.shape[1]), dtype=np.float32)
    select_kernels.unit_rows(arrays.factors, arrays.factor_norms, rows, units)
    return units, (rows >= 0) & (arrays.factor_norms[rows] > 0)


def _categories(
    candidates: Candidates, rules: Rules, context: SelectionContext
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """(k + 1,) where each candidate's categories begin, (t,) their numbers, (distinct,) zeros; nothing without caps."""
    offsets = np.zeros(len(candidates.keys) + 1, dtype=np.int32)
    if not rules.max_per_category:
        return offsets, offsets[:0], offsets[:0].copy()
    column = context.catalogue.categories
    starts, counts = column.starts[candidates.keys], column.counts[candidates.keys]
    total = int(counts.sum(dtype=np.int64))
    slots = np.empty((1 << (2 * total + 1).bit_length(), 2), dtype=np.int64)
    numbers = np.empty(total, dtype=np.int32)
    found = select_kernels.number_runs(
        starts.astype(np.int64), counts.astype(np.int64), column.pool, slots, offsets, numbers
    )
    return offsets, numbers, np.zeros(found, dtype=np.int32)


def warm_up(catalogue: Catalogue, key: int) -> None:
    """Compiles what a request may need; the catalogue knows `key`."""
    keys, bits = np.array([key], dtype=np.int32), np.ones(1, dtype=np.uint8)
    one = np.ones((1, 1), dtype=np.float32)
    served = ServedRing(keys, np.ones(1, dtype=np.uint32))
    context = SelectionContext(catalogue, served=served, time_s=1.0)
    rules = Rules(diversity=0.5, max_per_category=1, exploration=0.5, rotation=Rotation(0.1, 1))
    for some in (Rules(), rules):
        select(Candidates(keys, keys, bits), one[0], some, context)
    select_kernels.unit_rows(one, one[0], np.zeros(1, dtype=np.int32), one.copy())
    for code_type in CODE_TYPES:
        run, slots = np.ones(1, dtype=np.int64), np.empty((4, 2), dtype=np.int64)
        select_kernels.number_runs(
            run, run, np.ones(2, dtype=code_type), slots, np.empty(2, np.int32), keys.copy()
        )
    mask, table = np.ones(1, dtype=np.bool_), np.zeros(2, dtype=np.int32)
    select_kernels.first_allowed(keys, mask, table, keys.copy())
