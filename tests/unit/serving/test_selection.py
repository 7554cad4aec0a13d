"""What a page's rules promise, whatever the candidates."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bitmaps import Bitmaps
from serving.candidates import NEW, PROMOTED, TRENDING, Candidates
from serving.catalogue import Catalogue
from serving.rules import Boosting, Pin, Promotion, Quotas, Rotation, Rules
from serving.selection import Selected, SelectionContext, select
from serving.served import ServedRing
from tests.unit.serving.items import NOW_S, catalogue_of, item
from vectorizer.sources import PERSONAL, POPULAR

ITEM_COUNT = 60
# More names than category_bits has bits: those of two categories would look like one.
CATEGORIES = [f"category {n}" for n in range(90)]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    random = np.random.default_rng(5)
    rows = []
    for key in range(1, ITEM_COUNT + 1):
        names = [CATEGORIES[n] for n in random.permutation(8)[: random.integers(0, 3)]]
        rows.append(item(key, categories=names, tags=["own"] * (key % 4 == 0), numbers={"year": key}))
    return catalogue_of(*rows)


def context_of(catalogue: Catalogue, **changes: object) -> SelectionContext:
    return SelectionContext(catalogue, None, Bitmaps(catalogue), time_s=NOW_S, **changes)  # type: ignore[arg-type]


def candidates_of(random: np.random.Generator, count: int) -> tuple[Candidates, np.ndarray]:
    keys = (random.permutation(ITEM_COUNT)[:count] + 1).astype(np.int32)
    bits = random.choice([PERSONAL, POPULAR, TRENDING, NEW], count).astype(np.uint8)
    return Candidates(keys, np.full(count, -1, np.int32), bits), random.normal(size=count).astype(np.float32)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    places = draw(st.lists(st.integers(1, 30), max_size=4, unique=True))
    items = draw(st.permutations(range(1, ITEM_COUNT + 1)))
    promotions = draw(st.sampled_from([(), (Promotion("own", 0.25, "tags:own"),), (
        Promotion("own", 0.2, "tags:own"), Promotion("these", 0.1, item_ids=("i1", "i2", "i3", "i5"))
    )]))  # fmt: skip
    return Rules(
        page_size=draw(st.integers(1, 25)),
        diversity=draw(st.sampled_from([0.0, 0.4])),
        max_per_category=draw(st.sampled_from([0, 0, 1, 3])),
        min_score=draw(st.sampled_from([None, None, -0.5])),
        exploration=draw(st.sampled_from([0.0, 0.3])),
        boosts=draw(st.sampled_from([(), (Boosting("new", "year > 30", 0.3),)])),
        pins=tuple(Pin(f"pin {p}", f"i{i}", p) for p, i in zip(places, items, strict=False)),
        promotions=promotions,
    )


def keys_of(selected: Selected, candidates: Candidates) -> list[int]:
    return [int(key) for key in candidates.keys[selected.places]]


@given(rules(), st.integers(0, 2**32), st.integers(1, ITEM_COUNT), st.integers(0, 30))
def test_select_when_anything_is_asked_keeps_what_the_rules_promise(
    catalogue: Catalogue, asked: Rules, seed: int, count: int, shown: int
) -> None:
    candidates, scores = candidates_of(np.random.default_rng(seed), count)
    selected = select(candidates, scores, asked, context_of(catalogue, shown_count=shown, seed=seed))
    keys = keys_of(selected, candidates)
    assert len(keys) <= asked.page_size
    assert len(set(keys)) == len(keys)
    pins = {pin.place - shown: int(pin.item_id[1:]) for pin in asked.pins if pin.place > shown}
    moved_up = {key for place, key in pins.items() if place > len(keys) or keys[place - 1] != key}
    present = set(candidates.keys.tolist())
    for place, key in pins.items():
        if key in present and place <= asked.page_size and len(keys) >= place:
            # Where there are enough others; else the pins that are left stand behind each other at the end.
            assert keys[place - 1] == key or not {*keys[place - 1 :]} - set(pins.values())
        elif key in present and place > asked.page_size and len(keys) == asked.page_size:
            assert key not in keys or not {*keys[keys.index(key) :]} - moved_up
    pinned = set(pins.values())
    if asked.max_per_category:
        taken: Counter[str] = Counter()
        for key in keys:
            names = catalogue.categories.values(key)
            assert key in pinned or all(taken[name] < asked.max_per_category for name in names)
            taken.update(names)
    if asked.min_score is not None:
        assert all(
            selected.scores[p] >= asked.min_score
            for p, k in zip(selected.places, keys, strict=True)
            if k not in pinned
        )
    if asked.exploration:
        assert selected.propensities is not None
        assert all(0 < p <= 1 + 1e-12 for p in selected.propensities)
    else:
        assert selected.propensities is None


@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.integers(1, 12), st.integers(0, 3))
def test_select_when_promoted_gives_the_share_of_the_list_within_one(
    catalogue: Catalogue, seed: int, share: float, page_size: int, page: int
) -> None:
    candidates, scores = candidates_of(np.random.default_rng(seed), ITEM_COUNT)
    asked = Rules(page_size=page_size, promotions=(Promotion("own", share, "tags:own"),))
    shown = 0
    own = 0
    for _ in range(page + 1):
        selected = select(candidates, scores, asked, context_of(catalogue, shown_count=shown))
        shown += len(selected.places)
        own += sum(key % 4 == 0 for key in keys_of(selected, candidates))
        left = np.setdiff1d(np.arange(len(scores)), selected.places)
        candidates = Candidates(candidates.keys[left], candidates.rows[left], candidates.bits[left])
        scores = scores[left]
        if min((candidates.keys % 4 == 0).sum(), (candidates.keys % 4 != 0).sum()) == 0:
            return  # one of the two has nothing left to give
        assert abs(own - share * shown) <= 1


def test_select_when_promoted_spreads_the_places_evenly(catalogue: Catalogue) -> None:
    candidates, scores = candidates_of(np.random.default_rng(1), ITEM_COUNT)
    asked = Rules(page_size=20, promotions=(Promotion("own", 0.2, "tags:own"),))
    keys = keys_of(select(candidates, scores, asked, context_of(catalogue)), candidates)
    places = [at for at, key in enumerate(keys) if key % 4 == 0]
    assert len(places) == 4
    assert set(np.diff(places).tolist()) == {5}


SEED_COUNT = 20_000


@pytest.mark.parametrize("diversity", [0.0, 0.6])
def test_propensities_over_seeds_agree_with_frequencies_and_sum_to_one(
    catalogue: Catalogue, diversity: float
) -> None:
    candidates, scores = candidates_of(np.random.default_rng(2), 6)
    asked = Rules(page_size=3, exploration=0.3, diversity=diversity)
    context = context_of(catalogue)
    seeds = np.random.default_rng(3).integers(0, 2**63, SEED_COUNT)
    counts: Counter[tuple[int, ...]] = Counter()
    chances: dict[tuple[int, ...], float] = {}
    for seed in seeds.tolist():
        selected = select(candidates, scores, asked, replace(context, seed=seed))
        assert selected.propensities is not None
        for place, chance in enumerate(selected.propensities.tolist()):
            prefix = tuple(selected.places[: place + 1].tolist())
            assert (
                chances.setdefault(prefix, chance) == chance
            )  # given the places before, whatever came after
            counts[prefix] += 1
    for prefix, chance in chances.items():
        before = counts[prefix[:-1]] if len(prefix) > 1 else SEED_COUNT
        sigma = np.sqrt(before * chance * (1 - chance))
        assert abs(counts[prefix] - before * chance) <= 4 * sigma + 4, prefix
    for parent in [(), *(prefix for prefix in chances if len(prefix) == 1)]:
        followers = [chance for prefix, chance in chances.items() if prefix[:-1] == parent]
        assert len(followers) == 6 - len(parent)
        assert sum(followers) == pytest.approx(1)


def test_select_when_drawn_by_the_same_answer_id_draws_the_same(catalogue: Catalogue) -> None:
    candidates, scores = candidates_of(np.random.default_rng(4), 40)
    asked = Rules(exploration=0.5)
    first, again, other = (
        select(candidates, scores, asked, context_of(catalogue, seed=seed)).places.tolist()
        for seed in (7, 7, 8)
    )
    assert first == again != other


def test_select_when_plain_answers_the_best_scores_in_order(catalogue: Catalogue) -> None:
    candidates, _ = candidates_of(np.random.default_rng(4), 5)
    scores = np.array([1, 3, 3, -2, 2], dtype=np.float32)
    selected = select(candidates, scores, Rules(page_size=3), context_of(catalogue))
    assert selected.places.tolist() == [1, 2, 4]
    assert selected.scores is scores
    assert (selected.propensities, selected.is_last) == (None, False)
    assert select(candidates, scores, Rules(page_size=9), context_of(catalogue)).is_last


def test_select_when_boosted_by_the_whole_distance_stands_above_everything_else(catalogue: Catalogue) -> None:
    candidates, scores = candidates_of(np.random.default_rng(6), 30)
    worst = int(np.argmin(scores))
    year = int(candidates.keys[worst])
    asked = Rules(page_size=5, boosts=(Boosting("it", f"year = {year}", 1.0),))
    selected = select(candidates, scores, asked, context_of(catalogue))
    assert selected.places[0] == worst
    rule = selected.applied.of(worst)[0]
    assert (rule.kind, rule.name) == ("boost", "it")
    assert rule.effect == pytest.approx(float(selected.scores[worst] - scores[worst]), rel=1e-5)
    assert selected.applied.of(int(selected.places[1])) == []


def test_select_when_an_item_was_served_lately_lowers_it_by_its_age(catalogue: Catalogue) -> None:
    candidates, _ = candidates_of(np.random.default_rng(6), 3)
    scores = np.array([3, 2, 1], dtype=np.float32)
    ring = ServedRing(candidates.keys[[0, 0]], np.array([NOW_S - 100, NOW_S], dtype=np.uint32))
    asked = Rules(page_size=3, rotation=Rotation(0.5, 100))
    selected = select(candidates, scores, asked, context_of(catalogue, served=ring))
    assert selected.scores[0] == pytest.approx(3 - 0.5 * 2 * (1 + np.exp(-1)), rel=1e-3)
    assert selected.places.tolist() == [1, 0, 2]


def test_select_when_sources_take_turns_alternates_them(catalogue: Catalogue) -> None:
    keys = np.arange(1, 7, dtype=np.int32)
    bits = np.array([PERSONAL, PERSONAL, PERSONAL, TRENDING, TRENDING, PROMOTED], dtype=np.uint8)
    scores = np.array([9, 8, 7, 1, 2, 0], dtype=np.float32)
    asked = Rules(page_size=6, merging="turns", turns=("trending", "personal"))
    selected = select(Candidates(keys, -keys, bits), scores, asked, context_of(catalogue))
    assert selected.places.tolist() == [4, 0, 3, 1, 2, 5]


def test_select_when_caps_cut_a_page_short_says_that_there_is_more() -> None:
    catalogue = catalogue_of(*(item(key, categories=["one"]) for key in range(1, 6)))
    keys = np.arange(1, 6, dtype=np.int32)
    candidates = Candidates(keys, -keys, np.full(5, PERSONAL, np.uint8))
    selected = select(
        candidates, -keys.astype(np.float32), Rules(page_size=4, max_per_category=2), context_of(catalogue)
    )
    assert selected.places.tolist() == [0, 1]
    assert not selected.is_last
    assert selected.applied.is_category_full(3)


def test_candidates_within_quotas_keep_the_first_of_each_source_and_fill_a_page() -> None:
    keys = np.arange(1, 8, dtype=np.int32)
    bits = np.array([PERSONAL] * 4 + [TRENDING] * 3, dtype=np.uint8)
    candidates = Candidates(keys, -keys, bits)
    assert candidates.within(Quotas(personal=2, trending=1), 1).keys.tolist() == [1, 2, 5]
    assert candidates.within(Quotas(personal=2, trending=1), 5).keys.tolist() == [1, 2, 3, 4, 5]
    assert candidates.within(Quotas(), 5) is candidates
