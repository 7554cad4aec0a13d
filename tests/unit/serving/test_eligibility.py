"""What may be answered is kept by filter, model and state of the catalogue, within a bound."""

from __future__ import annotations

import numpy as np
import pytest

from serving import limits
from serving.catalogue import Catalogue
from serving.eligibility import EligibilityCache, Eligible
from serving.model import LoadedModel, of_arrays
from tests.integration.serving.models import make_model
from tests.unit.serving.items import NOW_S, catalogue_of, item

KEYS = 12  # a model needs more items than its lists are long


def model_of(version: str, *keys: int) -> LoadedModel:
    return of_arrays(version, make_model(np.array(keys, dtype=np.int32)))


def passing(eligible: Eligible) -> list[int]:
    return np.flatnonzero(eligible.mask).tolist()


def size_of_one(catalogue: Catalogue) -> int:
    cache = EligibilityCache(catalogue)
    cache.of(None, "brand:a")
    return cache.size_bytes


def test_of_when_nothing_changed_is_what_was_kept() -> None:
    cache = EligibilityCache(catalogue_of(item(1), item(2)))

    assert cache.of(None, "categories:x OR tags:y") is cache.of(None, "categories:x  OR  tags:y")


def test_of_when_the_catalogue_changed_is_derived_anew() -> None:
    catalogue = catalogue_of(item(1, texts={"brand": "a"}), item(2, texts={"brand": "b"}))
    cache = EligibilityCache(catalogue)
    before = passing(cache.of(None, "brand:a"))

    catalogue.apply([item(2, texts={"brand": "a"}), item(3, texts={"brand": "a"})], NOW_S)

    assert (before, passing(cache.of(None, "brand:a"))) == ([1], [1, 2, 3])


def test_of_when_an_item_expired_is_derived_anew() -> None:
    catalogue = catalogue_of(item(1), item(2, expire_s=NOW_S + 5))
    cache = EligibilityCache(catalogue)
    before = passing(cache.of(None, ""))

    catalogue.expire(NOW_S + 5)

    assert (before, passing(cache.of(None, ""))) == ([1, 2], [1])


def test_of_when_the_model_changed_hides_and_fills_by_the_one_that_is_asked_for() -> None:
    cache = EligibilityCache(catalogue_of(*map(item, range(1, KEYS + 1)), item(13, available=False)))
    old, new = model_of("old", *range(1, KEYS)), model_of("new", 13, *range(2, KEYS + 1))

    found = [cache.of(model, "") for model in (None, old, new, old)]

    assert [sorted(each.unmodelled_keys.tolist()) for each in found] == [
        list(range(1, KEYS + 1)), [KEYS], [1], [KEYS],
    ]  # fmt: skip
    assert [np.flatnonzero(each.hidden).tolist() for each in found] == [[], [], [0], []]
    assert [len(each.hidden) for each in found] == [0, 0, KEYS, 0]  # nothing is read where nothing is hidden


def test_of_when_few_pass_knows_the_rows_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = catalogue_of(*(item(key, texts={"brand": "ab"[key % 2]}) for key in range(1, KEYS + 1)))
    cache, model = EligibilityCache(catalogue), model_of("m", *range(1, KEYS + 1))
    found = cache.of(model, "brand:a")
    assert found.shown is not None
    assert found.shown.rows.tolist() == np.flatnonzero(found.hidden == 0).tolist()
    assert found.popular_keys.tolist() == [2, 4, 6, 8, 10, 12]  # by popularity, which falls with the key
    assert cache.of(model, "").shown is None  # all of them

    monkeypatch.setattr("retrieval.limits.SHOWN_ROWS_MAX", 5)
    assert EligibilityCache(catalogue).of(model, "brand:a").shown is None


def test_of_when_there_are_too_many_forgets_what_was_not_asked_for_the_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brands = "abc"
    catalogue = catalogue_of(*(item(i + 1, texts={"brand": brand}) for i, brand in enumerate(brands)))
    size_bytes = size_of_one(catalogue)
    monkeypatch.setattr(limits, "ELIGIBLE_BYTES_MAX", 2 * size_bytes)
    cache = EligibilityCache(catalogue)
    a, b = cache.of(None, "brand:a"), cache.of(None, "brand:b")
    assert cache.of(None, "brand:a") is a

    c = cache.of(None, "brand:c")

    assert [cache.of(None, f"brand:{brand}") is kept for brand, kept in (("a", a), ("c", c), ("b", b))] == [
        True, True, False,
    ]  # fmt: skip


def test_of_when_what_is_kept_went_with_the_catalogue_has_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = catalogue_of(item(1, texts={"brand": "a"}), item(2, texts={"brand": "b"}))
    size_bytes = size_of_one(catalogue)
    monkeypatch.setattr(limits, "ELIGIBLE_BYTES_MAX", 2 * size_bytes)
    cache = EligibilityCache(catalogue)
    for brand in "ab":
        cache.of(None, f"brand:{brand}")

    catalogue.apply([], NOW_S)
    a, b = cache.of(None, "brand:a"), cache.of(None, "brand:b")

    assert cache.of(None, "brand:a") is a
    assert cache.of(None, "brand:b") is b
