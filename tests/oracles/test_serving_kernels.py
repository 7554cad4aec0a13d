"""Serving's kernels agree with their plain twins."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import kernels
from serving.candidates import Candidates
from serving.rules import Rules
from serving.selection import SelectionContext, select
from tests.oracles import serving_twins
from vectorizer.key_set import put_keys

SEEDS = range(20)


def int32(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def table_of(keys: Sequence[int], slot_count: int) -> np.ndarray:
    table = np.zeros(slot_count, np.int32)
    assert put_keys(int32(keys), table, 0) == len({key for key in keys if key >= 0})
    return table


@pytest.mark.parametrize("seed", SEEDS)
def test_unite_when_sources_overlap_agrees_with_twin(seed: int) -> None:
    random = np.random.default_rng(seed)
    item_keys = int32(random.permutation(40)[:30])
    row_of = {int(key): row for row, key in enumerate(item_keys)}
    row_by_key = int32([row_of.get(key, -1) for key in range(38)])  # shorter than the catalogue
    row_of = {key: row for key, row in row_of.items() if key < 38}
    eligible, blocked = random.random(40) < 0.7, random.permutation(40)[:8]
    allowed = set(np.flatnonzero(eligible).tolist()) - set(blocked.tolist())
    found_rows = int32([row for row in range(30) if int(item_keys[row]) in allowed][:9])
    found_bits = random.integers(1, 16, len(found_rows)).astype(np.uint8)
    lists = [int32(random.integers(-3, 45, 20)) for _ in range(3)]
    fills = [int32(random.permutation(45)), int32(random.permutation(45))]
    rooms, count_min, limit = (3, 5, 2), int(random.integers(10, 30)), 28
    keys, rows, bits = np.zeros(limit, np.int32), np.zeros(limit, np.int32), np.zeros(limit, np.uint8)
    slots, places = np.ones(64, np.int32), np.ones(64, np.int32)
    size = kernels.unite(
        found_rows, found_bits, item_keys, row_by_key, tuple(lists), (16, 1, 32), rooms, tuple(fills), (8, 32),
        count_min, eligible, table_of(blocked.tolist(), 16), slots, places, keys, rows, bits,
    )  # fmt: skip
    twin = serving_twins.unite(
        [(int(item_keys[r]), int(r), int(b)) for r, b in zip(found_rows, found_bits, strict=True)],
        [(x.tolist(), bit, room) for x, bit, room in zip(lists, (16, 1, 32), rooms, strict=True)],
        [(x.tolist(), bit) for x, bit in zip(fills, (8, 32), strict=True)],
        count_min, allowed, row_of, limit,
    )  # fmt: skip
    united = zip(keys[:size].tolist(), rows[:size].tolist(), bits[:size].tolist(), strict=True)
    assert list(united) == twin


@given(st.lists(st.integers(-2, 2**28 - 1), max_size=40), st.sampled_from([16, 64, 128]))
def test_put_keys_holds_all_of_them_or_says_that_the_table_is_too_small(
    keys: list[int], slot_count: int
) -> None:
    table, wanted = np.zeros(slot_count, np.int32), {key for key in keys if key >= 0}
    taken = put_keys(int32(keys), table, 0)
    if 2 * len(wanted) <= slot_count:
        assert taken == len(wanted)
        assert {key - 1 for key in table.tolist() if key} == wanted
        assert put_keys(int32(keys), table, taken) == taken  # each once
    else:
        assert taken == -1


@given(
    st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0]), max_size=60),
    st.sampled_from([-np.inf, 0.0, 0.3, 9.0]),
    st.integers(0, 70),
)
def test_select_top_agrees_with_twin(scores: list[float], score_min: float, count: int) -> None:
    chosen = np.zeros(count, np.int64)
    size = kernels.select_top(np.array(scores, np.float32), score_min, chosen)
    assert chosen[:size].tolist() == serving_twins.select_top(scores, score_min, count)


@pytest.mark.parametrize("seed", SEEDS)
def test_hide_rows_splits_by_what_the_model_knows(seed: int) -> None:
    random = np.random.default_rng(seed)
    item_keys, mask = int32(random.permutation(40)[:25]), random.random(36) < 0.5
    unmodelled, hidden = mask.copy(), np.full(25, 9, np.uint8)
    passing = kernels.hide_rows(item_keys, mask, hidden, unmodelled)
    shown = [bool(key < 36 and mask[key]) for key in item_keys]
    assert (hidden == 0).tolist() == shown
    assert set(hidden.tolist()) <= {0, 1}
    assert passing == sum(shown)
    left = set(np.flatnonzero(mask).tolist()) - set(item_keys.tolist())
    assert np.flatnonzero(unmodelled).tolist() == sorted(left)


def test_share_categories_agrees_with_twin() -> None:
    random = np.random.default_rng(3)
    bits = random.integers(0, 2**64, 200, dtype=np.uint64) & random.integers(0, 2**64, 200, dtype=np.uint64)
    bits[:3] = 0, 2**64 - 1, 1
    mask = random.random(200) < 0.7
    for own in (0, 1, 2**63, int(bits[9]), 2**64 - 1):
        shares = np.full(200, np.nan, dtype=np.float32)
        kernels.share_categories(bits, np.uint64(own), mask, shares)
        expected = serving_twins.share_categories(bits.tolist(), own, mask.tolist())
        np.testing.assert_allclose(shares, expected, rtol=1e-6)


@pytest.mark.parametrize("diversity", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_select_when_diverse_agrees_with_twin(seed: int, diversity: float) -> None:
    random = np.random.default_rng(seed)
    factors = random.normal(size=(30, 4)).astype(np.float32)
    factors[3] = 0
    scores = random.normal(size=20).astype(np.float32)
    rows = np.where(random.random(20) < 0.8, random.permutation(30)[:20], -1).astype(np.int32)
    categories = random.integers(0, 16, 20).astype(np.uint64)
    norms = np.linalg.norm(factors, axis=1).astype(np.float32)
    model = SimpleNamespace(arrays=SimpleNamespace(factors=factors, factor_norms=norms))
    candidates = Candidates(np.arange(20, dtype=np.int32), rows, np.ones(20, np.uint8))
    context = SelectionContext(SimpleNamespace(category_bits=categories), model)  # type: ignore[arg-type]  # all that is read
    places = select(candidates, scores, Rules(page_size=8, diversity=diversity), context).places
    twin = serving_twins.select_diverse(
        scores.tolist(), factors, rows.tolist(), [int(c) for c in categories], diversity, 8
    )
    assert places.tolist() == twin


@pytest.mark.parametrize("seed", range(5))
def test_mark_lists_and_rows_of_agree_with_plain_python(seed: int) -> None:
    random = np.random.default_rng(seed)
    lists = [random.integers(0, 5, random.integers(0, 4)).astype(np.int32) for _ in range(12)]
    counts = np.array([len(x) for x in lists], np.int32)
    starts = np.concatenate([[0], np.cumsum(counts[:-1])]).astype(np.int64)
    out = np.zeros(12, np.bool_)
    kernels.mark_lists(starts, counts, np.concatenate([*lists, [0]]).astype(np.int32), np.int32(3), out)
    assert out.tolist() == [3 in x for x in lists]
    table = random.integers(-1, 9, 10).astype(np.int32)
    keys = random.integers(-2, 14, 20).astype(np.int32)
    rows = np.zeros(20, np.int32)
    kernels.rows_of(keys, table, rows)
    assert rows.tolist() == [int(table[k]) if 0 <= k < 10 else -1 for k in keys.tolist()]


@pytest.mark.parametrize(
    ("data", "low_bits"), [([], 0), ([0xFF] * 5, 0), ([0x00], 8), ([0xFF, 0], 30), ([0x80, *[0xFF] * 8], 30)]
)
def test_unpack_keys_when_bytes_are_damaged_says_so(data: list[int], low_bits: int) -> None:
    assert not kernels.unpack_keys(np.array(data, np.uint8), low_bits, np.zeros(2, np.int32))


@given(st.lists(st.integers(0, 2**28 - 1), max_size=60, unique=True), st.integers(0, 30))
def test_pack_keys_writes_each_gap_in_ones_a_zero_and_its_low_bits(keys: list[int], low_bits: int) -> None:
    keys.sort()
    gaps = [key - before - 1 for before, key in zip([-1, *keys], keys, strict=False)]
    if any(gap >> low_bits > 200 for gap in gaps):
        return  # a megabyte of ones
    text = "".join(
        "1" * (gap >> low_bits) + "0" + f"{gap & (1 << low_bits) - 1:0{low_bits}b}"[: low_bits or 0]
        for gap in gaps
    )
    out = np.zeros(4_096, np.uint8)
    size = kernels.pack_keys(int32(keys), low_bits, out)
    assert "".join(f"{byte:08b}" for byte in out[:size]) == text.ljust(8 * size, "0")
    read = np.zeros(len(keys), np.int32)
    assert kernels.unpack_keys(out[:size], low_bits, read)
    assert read.tolist() == keys
    assert kernels.pack_keys(int32(keys), low_bits, np.zeros(max(0, size - 1), np.uint8)) == (
        -1 if size else 0
    )
