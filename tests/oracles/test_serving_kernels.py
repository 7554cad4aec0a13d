"""Serving's kernels agree with their plain twins."""

from __future__ import annotations

import numpy as np
import pytest

from serving import kernels
from tests.oracles import serving_twins

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_merge_keys_when_sources_overlap_agrees_with_twin(seed: int) -> None:
    random = np.random.default_rng(seed)
    eligible, blocked = random.random(40) < 0.7, (random.random(40) < 0.2).astype(np.uint8)
    allowed = set(np.flatnonzero(eligible & (blocked == 0)).tolist())
    keys, bits, slots = np.zeros(25, np.int32), np.zeros(25, np.uint8), np.zeros(40, np.int32)
    twin_keys: list[int] = []
    twin_bits: list[int] = []
    size = 0
    for bit in (1, 2, 16):
        found = random.integers(-3, 45, 30).astype(np.int32)
        size = kernels.merge_keys(found, np.uint8(bit), 12, eligible, blocked, slots, keys, bits, size)
        serving_twins.merge(found.tolist(), bit, 12, allowed, twin_keys, twin_bits, 25)
    assert keys[:size].tolist() == twin_keys
    assert bits[:size].tolist() == twin_bits
    kernels.clear_slots(keys, size, slots)
    assert not slots.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_fill_keys_when_room_is_left_takes_the_first_that_may_be(seed: int) -> None:
    random = np.random.default_rng(seed)
    eligible, blocked = random.random(40) < 0.7, (random.random(40) < 0.2).astype(np.uint8)
    keys, bits, slots = np.zeros(25, np.int32), np.zeros(25, np.uint8), np.zeros(40, np.int32)
    keys[0], slots[5] = 5, 1
    found = random.permutation(40).astype(np.int32)
    size = kernels.fill_keys(found, np.uint8(8), 7, eligible, blocked, slots, keys, bits, 1)
    expected = [k for k in found.tolist() if eligible[k] and not blocked[k] and k != 5][:7]
    assert keys[1:size].tolist() == expected


@pytest.mark.parametrize("diversity", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_select_diverse_agrees_with_twin(seed: int, diversity: float) -> None:
    random = np.random.default_rng(seed)
    factors = random.normal(size=(30, 4)).astype(np.float32)
    factors[3] = 0
    scores = random.normal(size=20).astype(np.float32)
    rows = np.where(random.random(20) < 0.8, random.permutation(30)[:20], -1).astype(np.int32)
    categories = random.integers(0, 16, 20).astype(np.uint64)
    norms = np.linalg.norm(factors, axis=1).astype(np.float32)
    chosen = np.zeros(8, np.int64)
    size = kernels.select_diverse(scores, factors, norms, rows, categories, diversity, np.zeros(20), chosen)
    twin = serving_twins.select_diverse(
        scores.tolist(), factors, rows.tolist(), [int(c) for c in categories], diversity, 8
    )
    assert chosen[:size].tolist() == twin


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


@pytest.mark.parametrize("data", [[0x80], [0xFF] * 5, [0xFF] * 6 + [0], [0x80, 0x80, 0x80, 0x80, 0x80, 1]])
def test_unpack_keys_when_bytes_are_damaged_says_so(data: list[int]) -> None:
    packed = np.array(data, np.uint8)
    assert kernels.unpack_keys(packed, np.zeros(len(packed), np.int32)) == -1
