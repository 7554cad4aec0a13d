"""Catalogue and kept filters against dicts and plain predicates, through any sequence of changes.

RECO_STATE_STEPS sets how many steps are taken altogether (default 600): RECO_STATE_STEPS=10000 makes a long run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.errors import CallerError
from serving import columns, limits
from serving.catalogue import Catalogue, ItemRow
from serving.eligibility import EligibilityCache
from serving.model import LoadedModel
from tests.unit.serving.items import NOW_S, item
from tests.unit.serving.test_eligibility import model_of

STEPS = int(os.environ.get("RECO_STATE_STEPS", "600"))
STEPS_EACH = 50  # of one sequence: longer ones find no more, and are harder to shrink

Predicate = Callable[[ItemRow], bool]
FILTERS: dict[str, Predicate] = {
    "": lambda row: True,
    "categories:a": lambda row: "a" in row.categories,
    "NOT tags:b": lambda row: "b" not in row.tags,
    "tags:*": lambda row: bool(row.tags),
    "year >= 3": lambda row: row.numbers.get("year", -1) >= 3,
    "year != 2": lambda row: "year" in row.numbers and row.numbers["year"] != 2,
    'brand = "x"': lambda row: row.texts.get("brand") == "x",
    "brand != x": lambda row: "brand" in row.texts and row.texts["brand"] != "x",
    "brand > m": lambda row: row.texts.get("brand", "") > "m",
    'title:"SS"': lambda row: "ss" in row.title.casefold(),
    "title:*": lambda row: bool(row.title),
    "create_time < 2000-01-01": lambda row: row.create_s < 946_684_800,
    "categories:a OR brand = y -tags:b": lambda row: (
        ("a" in row.categories or row.texts.get("brand") == "y") and "b" not in row.tags
    ),
    # Another meaning once there are texts of this name, too.
    'late = "7"': lambda row: row.texts.get("late") == "7",
}
KEYS = st.integers(1, 60)
WORDS = st.sampled_from(["a", "b", "x", "y", "Straße", "pass", "zz"])
LISTS = st.lists(WORDS, max_size=3, unique=True)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "title": WORDS, "categories": LISTS, "tags": LISTS,
        "numbers": st.dictionaries(st.just("year"), st.sampled_from([0, 2, 3, 300, 2.5, 1e9])),
        "texts": st.dictionaries(st.just("brand"), WORDS), "create_s": st.sampled_from([0.0, 1.5, NOW_S]),
        "expire_s": st.sampled_from([None, NOW_S, NOW_S + 0.5, NOW_S + 3, NOW_S + 50]), "available": st.booleans(),
        "deleted": st.sampled_from([False, False, True]),
    },
)  # fmt: skip


class Filters(RuleBasedStateMachine):
    """Upserts, deletes, time, renumbered words, new attributes; filters that are asked for now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.plain, self.now_s = Catalogue(), dict[int, ItemRow](), NOW_S
        self.cache = EligibilityCache(self.view)
        self.models = (None, model_of("even", *range(2, 60, 2)), model_of("all", *range(1, 61)))
        self.loop = asyncio.new_event_loop()
        self.attribute_count = 0

    def teardown(self) -> None:
        self.loop.close()

    def apply(self, *rows: ItemRow) -> None:
        self.view.apply(rows, self.now_s)
        self.plain.update({row.key: row for row in rows})

    @initialize()
    def begin(self) -> None:
        first = item(1, categories=["a"], tags=["b"], numbers={"year": 1, "late": 7}, texts={"brand": "x"})
        self.apply(first)

    @rule(rows=st.lists(st.tuples(KEYS, CHANGES), min_size=1, max_size=8))
    def upsert(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        self.apply(*(item(key, **changes) for key, changes in rows))

    @rule(key=KEYS, change=st.sampled_from([{"deleted": True}, {"deleted": False}, {"available": False}]))
    def alter(self, key: int, change: dict[str, Any]) -> None:
        if key in self.plain:
            self.apply(self.plain[key]._replace(**change))

    @rule(seconds_s=st.sampled_from([0.25, 1.0, 5.0]))
    def wait(self, seconds_s: float) -> None:
        self.now_s += seconds_s

    @rule(first=st.integers(61, 900), count=st.integers(1, 30))
    def grow(self, first: int, count: int) -> None:
        self.apply(*(item(key, texts={"brand": f"p{key}"}) for key in range(first, first + count)))

    @rule(late=st.booleans())
    def add_attribute(self, late: bool) -> None:
        """A column that there was not; with `late`, one whose name had another meaning before."""
        self.attribute_count += not late
        name = "late" if late else f"n{self.attribute_count}"
        self.apply(item(2, texts={name: "7"}))

    @rule()
    def renumber(self) -> None:
        """Words and runs are packed: codes mean other words afterwards."""
        for column in (self.view.categories, self.view.tags):
            column._pack()
        for texts in (self.view.title, *self.view.texts.values()):
            texts._forget()

    @rule(text=st.sampled_from(list(FILTERS)), which=st.integers(0, 2), change=st.tuples(KEYS, CHANGES))
    def prepare(self, text: str, which: int, change: tuple[int, dict[str, Any]]) -> None:
        """Derived in a thread, while the catalogue changes."""

        async def both() -> None:
            preparing = asyncio.ensure_future(self.cache.prepare([text], 10.0, self.models[which]))
            await asyncio.sleep(0)
            self.apply(item(change[0], **change[1]))
            self.renumber()
            await preparing

        self.loop.run_until_complete(both())
        self.agrees_on(text, which)

    @rule()
    def look(self) -> None:
        self.loop.run_until_complete(self.cache.look())

    @rule(text=st.sampled_from(list(FILTERS)), which=st.integers(0, 2))
    def agrees_on(self, text: str, which: int) -> None:
        self.view.expire(self.now_s)
        model = self.models[which]
        if text.startswith("late") and "late" not in self.view.texts:
            self.cache.of(model, text)  # numbers are meant
            return
        found = self.cache.of(model, text)
        predicate = FILTERS[text]
        passing = sorted(k for k, row in self.plain.items() if self.is_usable(row) and predicate(row))
        assert np.flatnonzero(found.mask).tolist() == passing
        assert len(found.mask) == self.view.size
        assert found.count == found.report[1] == len(passing)
        bitmap = self.cache.bitmaps.of(text)
        every = sorted(k for k, row in self.plain.items() if predicate(row))
        assert np.array(list(self.plain))[bitmap.holds(np.array(list(self.plain), np.int32))].tolist() == [
            k for k in self.plain if k in set(every)
        ]
        self.agrees_on_model(passing, found, model)

    def agrees_on_model(self, passing: list[int], found: Any, model: LoadedModel | None) -> None:
        known = set(model.arrays.item_keys.tolist()) if model else set()
        newest = sorted((k for k in passing if k not in known), key=lambda k: (-self.plain[k].create_s, -k))
        assert found.unmodelled_keys.tolist() == newest
        if model is None:
            return
        keys = model.arrays.item_keys
        shown = [row for row, key in enumerate(keys.tolist()) if key in set(passing)]
        hidden = found.hidden if len(found.hidden) else np.zeros(len(keys), dtype=np.uint8)
        assert np.flatnonzero(hidden == 0).tolist() == shown
        assert found.popular_keys.tolist() == [
            int(keys[row]) for row in shown
        ]  # popularity falls with the row
        vector = model.arrays.factors[0]
        rows = model.retriever.search(vector, 5, found.hidden, shown=found.shown)
        best = model.retriever.exact(vector, 5, found.hidden)
        np.testing.assert_array_equal(
            model.arrays.factors[rows] @ vector, model.arrays.factors[best] @ vector
        )

    def is_usable(self, row: ItemRow) -> bool:
        return row.available and not row.deleted and (row.expire_s is None or row.expire_s > self.now_s)

    @invariant()
    def keeps_within_its_bounds(self) -> None:
        assert self.cache.size_bytes == sum(kept.size_bytes for kept in self.cache._kept.values())
        assert self.cache.size_bytes <= limits.ELIGIBLE_BYTES_MAX


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few steps reach what a large catalogue reaches: a log that is too short, lists that wear out."""
    monkeypatch.setattr(limits, "CHANGED_COUNT_MAX", 64)
    monkeypatch.setattr(limits, "CATCH_UP_COUNT_MAX", 16)
    monkeypatch.setattr(limits, "EXPIRED_COUNT_MAX", 4)
    monkeypatch.setattr(columns, "POOL_COUNT_MIN", 16)
    monkeypatch.setattr(columns, "WORD_COUNT_MIN", 8)


TestFilters = Filters.TestCase
TestFilters.settings = settings(
    max_examples=max(1, STEPS // STEPS_EACH),
    stateful_step_count=STEPS_EACH,
    deadline=None,
    derandomize=STEPS == 600,
)


def test_of_when_a_filter_cannot_be_read_keeps_nothing() -> None:
    cache = EligibilityCache(Catalogue())
    with pytest.raises(CallerError):
        cache.of(None, "year >=")
    assert cache.size_bytes == 0
