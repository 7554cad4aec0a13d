"""Selection's kernels agree with their plain twins."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import select_kernels as kernels
from serving.selection import in_turns
from serving.served import ServedRing
from tests.oracles import selection_twins as twins
from vectorizer.key_set import put_keys

WAYS = {kernels.ORGANIC: "best", kernels.PINNED: "pin", kernels.PROMOTED: "promotion", kernels.DRAWN: "drawn"}
SHARES = st.lists(st.integers(0, 8), min_size=1, max_size=4).filter(lambda parts: 0 < sum(parts) <= 16)


@given(st.integers(0, 2**64 - 1), st.integers(0, 1_000))
def test_uniform_agrees_with_twin(seed: int, step: int) -> None:
    assert kernels.uniform(np.uint64(seed), step) == twins.uniform(seed, step)


def shares_of(parts: list[int]) -> list[Fraction]:
    return [Fraction(16 - sum(parts), 16), *(Fraction(part, 16) for part in parts)]


@given(SHARES, st.integers(1, 300))
def test_turns_at_any_step_have_been_given_by_their_shares_within_one(parts: list[int], count: int) -> None:
    shares = shares_of(parts)
    given_turns, out = np.zeros(len(shares), np.int64), []
    for step in range(1, count + 1):
        out.append(kernels.turn_of(np.array(shares, dtype=np.float64), given_turns, step))
        given_turns[out[-1]] += 1
        assert all(abs(n - share * step) < 1 for n, share in zip(given_turns.tolist(), shares, strict=True))
    assert out == twins.turns(shares, count)


@st.composite
def pages(draw: st.DrawFn) -> tuple[twins.Page, list[int], np.ndarray]:
    k = draw(st.integers(1, 24))
    count = draw(st.integers(1, 16))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Scores in steps, so that some are equal: then the first stands first.
    scores = (random.integers(0, 12, k) / 4).astype(np.float32)
    pins = np.full(count + 3, -1)
    places = random.permutation(count + 3)[: draw(st.integers(0, 5))]
    pins[places[:k]] = random.permutation(k)[: len(places[:k])]
    parts = draw(st.one_of(st.just([]), SHARES))
    directions = random.normal(size=(k, 5)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    names = [[f"c{c}" for c in random.permutation(4)[: random.integers(0, 3)]] for _ in range(k)]
    return (
        twins.Page(
            scores=scores.tolist(),
            allowed=(random.random(k) < 0.9).tolist(),
            pins=pins.tolist(),
            count=count,
            kinds=random.integers(0, len(parts) + 1, k).tolist() if parts else [0] * k,
            turns=twins.turns(shares_of(parts), count) if parts else [],
            diversity=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
            likeness=np.maximum(directions @ directions.T, 0).tolist(),
            most=draw(st.sampled_from([0, 0, 1, 3])),
            categories=names,
            exploration=draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])),
            seed=draw(st.integers(0, 2**64 - 1)),
        ),
        parts,
        directions,
    )


@given(pages())
def test_select_places_agrees_with_twin(drawn) -> None:
    page, parts, directions = drawn
    k, kernel_pins = len(page.scores), np.array(page.pins, dtype=np.int64)
    shares = np.array(shares_of(parts), dtype=np.float64) if parts else np.zeros(1)
    names = sorted({name for each in page.categories for name in each})
    numbers = np.array([names.index(name) for each in page.categories for name in each], dtype=np.int32)
    offsets = np.cumsum([0, *(len(each) for each in page.categories)]).astype(np.int32)
    chosen, ways = np.empty(page.count, np.int64), np.empty(page.count, np.uint8)
    propensities = np.empty(page.count)
    size = kernels.select_places(
        np.array(page.scores, np.float32), np.array(page.allowed), kernel_pins, np.array(page.kinds, np.int8),
        shares, np.zeros(len(shares), np.int64), 0, page.diversity, directions, np.ones(k, np.bool_),
        np.zeros(k, np.uint64), page.most, offsets, numbers, np.zeros(len(names), np.int32), page.exploration,
        np.uint64(page.seed), np.empty(k, np.bool_), np.empty(k), np.empty(k), np.empty(k, np.int64), chosen, ways, propensities,
    )  # fmt: skip
    twin = page.fill()
    assert chosen[:size].tolist() == twin.chosen
    assert [WAYS[way] for way in ways[:size].tolist()] == twin.ways
    assert propensities[:size].tolist() == pytest.approx(twin.propensities)


RUNS = st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=12)


@given(RUNS, st.sampled_from([np.uint8, np.uint16, np.uint32]))
def test_number_runs_gives_equal_codes_equal_numbers(runs: list[list[int]], code_type: type) -> None:
    pool = np.array([code for run in runs for code in run] + [0], dtype=code_type)
    counts = np.array([len(run) for run in runs], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    total = int(counts.sum())
    slots = np.empty((1 << (2 * total + 1).bit_length(), 2), np.int64)
    offsets, numbers = np.empty(len(runs) + 1, np.int32), np.empty(total, np.int32)
    found = kernels.number_runs(starts, counts, pool, slots, offsets, numbers)
    codes = [code for run in runs for code in run]
    order = list(dict.fromkeys(codes))
    assert numbers.tolist() == [order.index(code) for code in codes]
    assert offsets.tolist() == [*starts.tolist(), total]
    assert found == len(order)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=20, unique=True),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2_000)), max_size=40),
)
def test_faded_agrees_with_twin(keys: list[int], ring: list[tuple[int, int]]) -> None:
    served = ServedRing(
        np.array([key for key, _ in ring], dtype=np.int32), np.array([at for _, at in ring], dtype=np.uint32)
    )
    found = served.faded(np.array(keys, dtype=np.int32), 1_000.0, 300)
    assert found.tolist() == pytest.approx(twins.faded(keys, ring, 1_000.0, 300), rel=1e-5)


@given(
    st.lists(st.tuples(st.sampled_from([1, 4, 16, 8, 32]), st.integers(0, 9)), min_size=1, max_size=25),
    st.permutations(["personal", "similar", "trending", "popular", "new"]),
    st.integers(1, 5),
)
def test_in_turns_agrees_with_twin(items: list[tuple[int, int]], order: list[str], count: int) -> None:
    names = {1: "personal", 4: "similar", 16: "trending", 8: "popular", 32: "new"}
    bits = np.array([bit for bit, _ in items], dtype=np.uint8)
    scores = np.array([score for _, score in items], dtype=np.float32)
    after = in_turns(bits, scores, order[:count])
    twin = twins.in_turns([names[bit] for bit, _ in items], scores.tolist(), order[:count])
    assert np.argsort(-after, kind="stable").tolist() == twin


def test_first_allowed_when_some_are_blocked_or_not_eligible_passes_them_over() -> None:
    keys = np.array([5, 2, 9, 3, -1, 1], dtype=np.int32)
    eligible = np.array([True, True, True, False, True, True])
    blocked = np.zeros(4, dtype=np.int32)
    put_keys(np.array([2], dtype=np.int32), blocked, 0)
    out = np.zeros(4, dtype=np.int32)
    assert kernels.first_allowed(keys, eligible, blocked, out) == 2
    assert out[:2].tolist() == [5, 1]
