"""Retrieval's kernels against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from retrieval import kernels, lanes
from retrieval.lanes import BLOCK_ROW_COUNT, CODE_ZERO
from retrieval.layout import encode
from retrieval.shown import ShownRows, Vectors
from tests.oracles import retrieval_twins as twins
from vectorizer.key_set import KeySet

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@njit
def _native(*args: object) -> int:
    return lanes.block_scores(*args)  # type: ignore[return-value, arg-type, no-any-return]


@pytest.mark.parametrize("scorer", [_native, lanes.block_scores_plain], ids=["native", "plain"])
@pytest.mark.parametrize("group_count", [1, 3, 16])
def test_block_scores_when_compared_with_the_twin_are_the_same(scorer: object, group_count: int) -> None:
    random = np.random.default_rng(group_count)
    width = group_count * 4 * BLOCK_ROW_COUNT
    codes = random.integers(1, 256, 3 * width).astype(np.uint8)
    signed = random.integers(-127, 128, group_count * 4).astype(np.int8)
    scales = random.random(3 * BLOCK_ROW_COUNT).astype(np.float32)
    bias = np.int32(CODE_ZERO * int(signed.astype(int).sum()))
    for block in range(3):
        out = np.zeros(BLOCK_ROW_COUNT, dtype=np.float32)
        own = scales[block * BLOCK_ROW_COUNT : (block + 1) * BLOCK_ROW_COUNT]
        part = codes[block * width : (block + 1) * width]
        expected, mask = twins.block_scores(part, signed.view(np.int32), own, 1.5)
        found = scorer(  # type: ignore[operator]
            codes,
            block * width,
            signed.view(np.int32),
            scales,
            block * BLOCK_ROW_COUNT,
            bias,
            np.float32(1.5),
            out,
        )
        np.testing.assert_array_equal(out, np.array(expected, dtype=np.float32))
        assert int(found) == mask


@given(st.lists(st.tuples(FLOATS, st.integers(0, 2**31 - 1)), min_size=1, max_size=50))
def test_keys_when_sorted_order_by_score_then_by_lower_row(pairs: list[tuple[float, int]]) -> None:
    keys = np.array([kernels.key_of(np.float32(s), r) for s, r in pairs], dtype=np.uint64)
    kernels.sort_falling(keys, len(keys), np.zeros(len(keys), dtype=np.uint64))
    found = [(float(kernels.score_of(key)), int(kernels.row_of(key))) for key in keys]
    assert found == sorted(((s + 0.0, r) for s, r in pairs), key=lambda pair: (-pair[0], pair[1]))


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=300), st.data())
@settings(deadline=None)
def test_keep_largest_when_cut_keeps_the_largest_with_the_smallest_last(
    values: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(values)))
    keys = np.array(values, dtype=np.uint64)
    kernels.keep_largest(keys, len(keys), count)
    expected = sorted(values, reverse=True)[:count]
    assert sorted((int(key) for key in keys[:count]), reverse=True) == expected
    assert int(keys[count - 1]) == expected[-1]


@given(st.lists(st.integers(-1, 10_000), max_size=60))
def test_key_set_when_used_again_is_free_again(rows: list[int]) -> None:
    known = KeySet()
    array = np.array(rows, dtype=np.int32)
    table = known.of(array)
    assert {int(slot) - 1 for slot in table if slot} == {row for row in rows if row >= 0}
    assert np.all(known.of(array[:0]) == 0)
    assert {int(slot) - 1 for slot in known.of(np.arange(1_000, dtype=np.int32)) if slot} == set(range(1_000))
    assert known.of(array).tobytes() == KeySet().of(array).tobytes()


def test_quantise_when_vector_has_an_odd_length_fills_with_zeros() -> None:
    query = np.zeros(2, dtype=np.int32)
    scale, bias = kernels.quantise(np.array([1.0, -2.0, 0.5, 0.0, 2.0], dtype=np.float32), query)
    codes = query.view(np.int8)
    assert codes.tolist() == [64, -127, 32, 0, 127, 0, 0, 0]
    assert bias == CODE_ZERO * int(codes.sum())
    assert scale == pytest.approx(2 / 127)


@pytest.mark.parametrize("share", [0.9, 0.2, 0.01])
def test_shown_rows_when_some_come_later_are_what_coding_the_rows_alone_gives(share: float) -> None:
    group_count = 3
    random = np.random.default_rng(8)
    factors = random.normal(size=(500, 10)).astype(np.float32)
    norms = np.linalg.norm(factors, axis=1).astype(np.float32)
    order = np.argsort(-norms)
    factors, norms = np.ascontiguousarray(factors[order]), norms[order]
    passing = np.flatnonzero(random.random(500) < share).astype(np.int32)
    kept = ShownRows(passing[:-2], 40, Vectors(factors, norms), coded=True, complete=True)
    assert kept.add(passing[-2:-1])
    assert kept.add(passing[-1:])
    shown = kept.now()
    own = shown.layout
    assert own is not None
    assert sorted(shown.rows.tolist()) == sorted(own.rows[own.rows >= 0].tolist()) == passing.tolist()
    filled = own.rows >= 0
    alone = encode(factors[own.rows[filled]], norms[own.rows[filled]])
    np.testing.assert_array_equal(own.scales[filled], alone.scales)
    codes = own.codes.reshape(own.block_count, group_count, BLOCK_ROW_COUNT, 4).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(codes.reshape(len(filled), -1)[filled], alone.codes)
    lowest = np.where(filled, norms[own.rows], 0).reshape(-1, BLOCK_ROW_COUNT).max(axis=1)
    assert np.all(own.norms >= lowest)
    assert not kept.add(np.zeros(100, dtype=np.int32))  # there is no room
