"""The view follows every change of an item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import structlog

from serving import columns, limits, texts
from serving.catalogue import Catalogue, ItemRow
from serving.limits import ATTRIBUTE_COUNT_MAX
from tests.unit.serving.items import NOW_S, catalogue_of, item


def put(column: Any, key: int, value: object) -> None:
    column.reserve(8)
    column.put_all(np.array([key]), [value])


def test_usable_when_item_is_unavailable_deleted_or_expired_is_false() -> None:
    catalogue = catalogue_of(
        item(1),
        item(2, available=False),
        item(3, deleted=True),
        item(4, expire_s=NOW_S),
        item(6, expire_s=NOW_S + 1),
    )
    assert np.flatnonzero(catalogue.usable).tolist() == [1, 6]


def test_expire_when_time_has_come_takes_the_item_out_and_says_so() -> None:
    catalogue = catalogue_of(item(1), item(2, expire_s=NOW_S + 5), item(3, expire_s=NOW_S + 9))
    revision = catalogue.revision
    catalogue.expire(NOW_S + 4)
    assert catalogue.revision == revision
    catalogue.expire(NOW_S + 5)
    assert np.flatnonzero(catalogue.usable).tolist() == [1, 3]
    assert catalogue.revision == revision + 1
    assert catalogue.next_expire_s == NOW_S + 9


def test_key_of_when_item_is_deleted_is_none_until_it_comes_back() -> None:
    catalogue = catalogue_of(item(1))
    catalogue.apply([item(1, deleted=True)], NOW_S)
    assert catalogue.key_of("i1") is None
    catalogue.apply([item(1)], NOW_S)
    assert catalogue.key_of("i1") == 1
    assert catalogue.key_of("nothing") is None


def test_apply_when_item_changes_forgets_what_it_had() -> None:
    catalogue = catalogue_of(item(1, numbers={"year": 1990}, texts={"brand": "a"}, categories=["War"]))
    catalogue.apply([item(1, categories=["Drama"])], NOW_S)
    assert np.isnan(catalogue.numbers["year"].view(2)[1])
    assert catalogue.texts["brand"].value(1) is None
    assert not catalogue.categories.having("War", 2)[1]
    assert catalogue.categories.having("Drama", 2)[1]


def test_put_when_lists_change_often_packs_the_pool_and_keeps_all() -> None:
    column = columns.ListColumn()
    for turn in range(3_000):
        put(column, turn % 7, [f"w{turn % 7}", f"v{turn % 3}"])
    assert len(column.pool) < 6_000
    for key in range(7):
        assert column.having(f"w{key}", 7).tolist() == [other == key for other in range(7)]


def test_put_when_texts_change_often_forgets_those_that_nobody_has() -> None:
    texts, lists = columns.TextColumn(), columns.ListColumn()
    for turn in range(9_000):
        put(texts, turn % 7, f"text {turn}")
        put(lists, turn % 7, [f"entry {turn}", "always"])
    put(texts, 7, None)

    assert texts.words.size <= 1_026
    assert lists.words.size < 3_000
    assert [texts.value(key) for key in range(7)] == [
        f"text {turn}" for turn in (8995, 8996, 8997, 8998, 8999, 8993, 8994)
    ]
    assert lists.having("entry 8999", 7).tolist() == [key == 8999 % 7 for key in range(7)]
    assert lists.having("always", 7).all()
    assert texts.value(7) is None


def test_apply_when_attributes_are_too_many_says_so_once() -> None:
    with structlog.testing.capture_logs() as logs:
        catalogue_of(*(item(key, texts={f"t{key}": ""}) for key in range(1, ATTRIBUTE_COUNT_MAX + 9)))

    assert [log["event"] for log in logs] == ["too many attributes; filters do not know this one"]


def test_apply_when_attributes_are_too_many_keeps_keeps_the_first() -> None:
    catalogue = catalogue_of(
        *(item(key, numbers={f"n{key}": 1.0}) for key in range(1, ATTRIBUTE_COUNT_MAX + 3))
    )
    assert len(catalogue.numbers) == ATTRIBUTE_COUNT_MAX


def test_put_when_the_column_s_type_does_not_hold_a_number_exactly_widens_it() -> None:
    column = columns.NumberColumn()
    column.reserve(8)
    types = []
    for key, value in enumerate([1, -128, 40_000, 0.5, 2.0**24 + 1, 0.1]):
        put(column, key, value)
        types.append(column.array.dtype.name)

    assert types == ["int8", "int16", "int32", "float64", "float64", "float64"]
    assert column.view(8)[:6].tolist() == [1, -128, 40_000, 0.5, 2**24 + 1, 0.1]
    assert column.present(8).tolist() == [True] * 6 + [False] * 2


def test_put_when_the_column_has_float32_and_the_number_is_none_widens_it() -> None:
    column = columns.NumberColumn()
    column.reserve(2)
    put(column, 0, 0.5)
    put(column, 1, 0.1)

    assert column.view(2).tolist() == [0.5, 0.1]


def test_withdraw_takes_items_out_once_and_unknown_keys_not_at_all() -> None:
    view = catalogue_of(*(item(key) for key in range(1, 5)))
    before = view.revision

    view.withdraw(np.array([2, 4, 99]))
    view.withdraw(np.array([2], dtype=np.int64))
    view.withdraw(np.zeros(0, dtype=np.int64))

    assert np.flatnonzero(view.usable).tolist() == [1, 3]
    assert sorted(view.changes_since(before)) == [2, 4]  # type: ignore[arg-type]  # it reaches back
    assert view.key_of("i2") == 2  # until its row says that it was deleted
    view.apply([item(2)], NOW_S)
    assert np.flatnonzero(view.usable).tolist() == [1, 2, 3]


def test_withdraw_when_items_expire_later_does_not_bring_them_back() -> None:
    view = catalogue_of(item(1, expire_s=NOW_S + 1), item(2))
    view.withdraw(np.array([2]))
    view.expire(NOW_S + 2)
    assert view.usable_count == 0


def arrays_of(view: Catalogue) -> dict[tuple[str, str], np.ndarray]:
    return {(part, name): each for part, (_, arrays) in view.parts().items() for name, each in arrays.items()}


def test_apply_when_the_work_was_done_ahead_replaces_no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_STEPS_ITEM_COUNT", 1)
    monkeypatch.setattr(limits, "CATALOG_AHEAD_COUNT", 100)
    monkeypatch.setattr(texts, "SMALL_COUNT_MAX", 1)
    view, rng = catalogue_of(rich(1, 0)), np.random.default_rng(5)
    replaced = 0
    for turn in range(120):
        keys = np.unique(np.r_[rng.integers(1, view.size, 20), np.arange(view.size, view.size + 30)])
        rows = [rich(int(key), turn) for key in keys]
        before = arrays_of(view)
        for work in view.work_ahead(rows):
            adopt = work()
            if adopt is not None:
                adopt()
        ahead = arrays_of(view)
        view.apply(rows, NOW_S)
        after = arrays_of(view)
        assert [name for name in ahead if after[name] is not ahead[name]] == []
        replaced += sum(ahead[name] is not before[name] for name in before)
    assert replaced > 100


def rich(key: int, turn: int) -> ItemRow:
    """An item with a value of everything, many of them new ones, and numbers of every size."""
    return item(
        key, id=f"item-{key}", title=f"Title {key} {turn}", categories=[f"c{key % 7}"], tags=[f"t{key % 90}", f"u{turn}"],
        numbers={"n": float(10 ** (turn // 15)) + turn / 4}, texts={"sku": f"{key}-{turn}", "brand": f"b{key % 9}"},
        expire_s=NOW_S + 10 + key * 7 % 50 + turn,
    )  # fmt: skip
