"""The loops that keep a filter's bits and lists against plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.bit_kernels import packed, read_bits, unpacked, write_bits
from serving.eligible_kernels import HIDDEN, HIDDEN_SINCE, SHOWN, change_keys, change_list, first_shown

ROOM = 6
KEYS = st.integers(0, 11)
CHANGES = st.lists(st.tuples(KEYS, st.integers(0, 3), st.booleans()), max_size=25)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.data())
def test_bits_agree_with_a_mask(bits: list[bool], data: st.DataObject) -> None:
    mask = np.array(bits)
    words = packed(mask)
    assert unpacked(words, len(mask)).tolist() == bits
    changed = data.draw(st.lists(st.integers(0, len(bits) - 1), unique=True))
    keys = np.array(changed, dtype=np.int32)
    values = np.array([data.draw(st.booleans()) for _ in changed], dtype=np.bool_)
    before = int(mask.sum())
    more = write_bits(words, keys, values)
    mask[keys] = values
    assert unpacked(words, len(mask)).tolist() == mask.tolist()
    assert before + more == int(mask.sum())
    asked = np.arange(-2, 64 * len(words) + 2, dtype=np.int32)
    found = np.empty(len(asked), dtype=np.bool_)
    read_bits(words, asked, found)
    assert found.tolist() == [0 <= key < len(mask) and bool(mask[key]) for key in asked]


@given(CHANGES, st.booleans())
def test_change_list_keeps_the_first_of_those_that_pass(
    changes: list[tuple[int, int, bool]], fixed: bool
) -> None:
    """In any order of changes, the list is the first of the truth's, as many as it has; all of them while it says so."""
    keys, values, size, more = np.zeros(ROOM, np.int32), np.zeros(ROOM), 0, False
    truth: dict[int, float] = {}
    for key, value, passes in changes:
        value = key % 4 if fixed else value
        was = np.array([key in truth])
        truth.pop(key, None)
        if passes:
            truth[key] = value
        size, more = change_list(
            np.array([key], np.int32), np.array([float(value)]), was, np.array([passes]), keys, values, size, more, fixed
        )  # fmt: skip
        order = sorted(truth, key=lambda key: (truth[key], -key))
        assert keys[:size].tolist() == order[:size]
        assert more or size == len(order)


def test_change_list_when_a_value_is_no_number_leaves_the_key_out() -> None:
    keys, values, one = np.zeros(2, np.int32), np.zeros(2), np.ones(1, np.int32)
    was, passes = np.array([False]), np.array([True])
    assert change_list(one, np.array([np.nan]), was, passes, keys, values, 0, False, True) == (0, False)


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=30))
def test_change_keys_tells_what_became_of_rows(changes: list[tuple[int, bool]]) -> None:
    mask, marks = np.zeros(12, dtype=np.bool_), np.full(6, HIDDEN, dtype=np.uint8)
    gained_before: set[int] = set()
    for key, passes in changes:
        row = key // 2 if key % 2 else -1
        was, gained = np.empty(1, dtype=np.bool_), np.empty(1, dtype=np.int32)
        before = mask.copy(), marks.copy()
        more, more_rows, count = change_keys(
            np.array([key], np.int32), np.array([row], np.int32), np.array([passes]), mask, marks, was, gained
        )
        assert was[0] == before[0][key]
        assert mask[key] == passes
        assert more == int(mask.sum()) - int(before[0].sum())
        assert more_rows == int((marks == SHOWN).sum()) - int((before[1] == SHOWN).sum())
        assert gained[:count].tolist() == ([row] if row >= 0 and passes and row not in gained_before else [])
        gained_before.update(gained[:count].tolist())
        assert row < 0 or marks[row] == (
            SHOWN if passes else HIDDEN_SINCE if row in gained_before else HIDDEN
        )


def test_first_shown_when_there_are_more_says_so() -> None:
    order, marks, rows = (
        np.array([3, 0, 2, 1], np.int32),
        np.array([0, 1, 0, 0], np.uint8),
        np.zeros(2, np.int32),
    )
    assert first_shown(order, marks, rows) == (2, True)
    assert rows.tolist() == [3, 0]
    assert first_shown(order, marks, np.zeros(3, np.int32)) == (3, False)
