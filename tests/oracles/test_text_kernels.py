"""The kernels over tables of texts agree with their plain twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import text_kernels
from serving.filters import Words, _holding, _signs
from serving.texts import TextTable, kept_texts
from tests.oracles import text_twins

TEXTS = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NEAR = st.text(
    alphabet="aAbßSsKKé\U0001f600", max_size=4
)  # the third K is the Kelvin sign, which casefolds to k
MANY = st.lists(st.one_of(TEXTS, NEAR), max_size=60)


def table_of(texts: list[str]) -> TextTable:
    table = TextTable(1)
    if texts:
        table.put(np.full(len(texts), -1, dtype=np.int32), texts)
    return table


@given(st.lists(MANY, max_size=4))
def test_put_of_texts_in_any_order_numbers_them_as_they_come(batches: list[list[str]]) -> None:
    table, plain = TextTable(1), text_twins.PlainTable()
    for batch in filter(None, batches):
        numbers = np.full(len(batch), -1, dtype=np.int32)
        table.put(numbers, batch)
        assert numbers.tolist() == [plain.put(-1, text) for text in batch]
    known = list(plain.texts)
    assert table.texts(np.array(known, dtype=np.int32)) == [plain.texts[number] for number in known]
    asked = [*plain.numbers, "never put", "a\0b"]
    assert table.find_all(asked).tolist() == [plain.numbers.get(text, -1) for text in asked]


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["a", "b", "c", "", "é" * 200])), max_size=30))
def test_put_under_given_numbers_moves_and_replaces_as_dicts_do(puts: list[tuple[int, str]]) -> None:
    table, plain = TextTable(1), text_twins.PlainTable()
    for number, text in puts:
        table.put(np.array([number], dtype=np.int32), [text])
        plain.put(number, text)
    for text in ("a", "b", "c", "", "é" * 200):
        assert table.find(text) == plain.numbers.get(text, -1)
    assert [table.text(number) for number in range(table.size)] == [
        plain.texts.get(number, "") for number in range(table.size)
    ]


def test_put_of_texts_that_are_too_long_or_too_many_for_small_types_keeps_all() -> None:
    texts = ["x" * 70_000, *(f"item {i}" for i in range(20_000)), "y" * 66_000]
    table = table_of(texts)
    assert table.lengths.dtype == np.uint32
    assert table.find_all(texts).tolist() == list(range(1, len(texts) + 1))
    assert table.texts(np.arange(1, len(texts) + 1)) == texts
    assert table.taken <= 0.6 * len(table.slots)


@given(MANY, st.data())
def test_kept_texts_have_their_new_numbers(texts: list[str], data: st.DataObject) -> None:
    table = table_of(texts)
    numbers = np.arange(1, table.size)
    kept = numbers[[data.draw(st.booleans()) for _ in numbers]] if len(numbers) else numbers
    small, renumbered = kept_texts(table, kept)
    assert small.texts(renumbered[kept]) == table.texts(kept)
    assert np.flatnonzero(renumbered).tolist() == kept.tolist()
    assert small.size == len(kept) + 1


@given(MANY, st.one_of(NEAR, st.just("\0"), TEXTS))
def test_search_and_compare_agree_with_python(texts: list[str], wanted: str) -> None:
    table = table_of(texts)
    words = [table.text(number) for number in range(1, table.size)]
    part = wanted.casefold()
    assert _holding(part, Words.of(table))[1:].tolist() == [text_twins.holds(part, word) for word in words]
    assert _signs(wanted, Words.of(table))[1:].tolist() == [text_twins.sign(word, wanted) for word in words]


@pytest.mark.parametrize("seed", range(10))
def test_pack_runs_keeps_each_run_and_leaves_no_gap(seed: int) -> None:
    random = np.random.default_rng(seed)
    pool = random.integers(0, 200, 300).astype(np.uint8)
    starts, counts = random.integers(0, 290, 40).astype(np.uint32), random.integers(0, 9, 40).astype(np.uint8)
    before = text_twins.runs(starts.tolist(), counts.tolist(), pool.tolist())
    packed = np.zeros(400, dtype=np.uint8)
    used = text_kernels.pack_runs(starts, counts, pool, packed)
    assert used == counts.sum()
    assert text_twins.runs(starts.tolist(), counts.tolist(), packed.tolist()) == before


@pytest.mark.parametrize("code_type", [np.uint8, np.uint16, np.uint32])
def test_look_up_agrees_with_indexing(code_type: type) -> None:
    random = np.random.default_rng(1)
    verdicts, codes = random.random(200) < 0.5, random.integers(0, 200, 500).astype(code_type)
    out = np.empty(500, dtype=np.bool_)
    text_kernels.look_up(verdicts, codes, out)
    assert out.tolist() == verdicts[codes].tolist()
