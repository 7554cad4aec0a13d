"""The catalogue against a plain dict of items, through any sequence of changes, and through its snapshots.

RECO_STATE_STEPS sets how many steps are taken altogether (default 1500): RECO_STATE_STEPS=10000 makes a long run.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from serving import limits
from serving.catalogue import Catalogue, ItemRow, hash_bit
from serving.catalogue_file import CatalogueFile, Origin
from tests.unit.serving.items import NOW_S, item

STEPS_DEFAULT, STEPS_EACH = 1_500, 25
STEPS = int(os.environ.get("RECO_STATE_STEPS", STEPS_DEFAULT))
KEYS = st.integers(1, 40)
WORDS = st.one_of(
    st.sampled_from(["", "a", "A", "straße", "日本語", "x" * 300]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)
NUMBERS = st.one_of(
    st.integers(-130, 130), st.integers(-(2**40), 2**40), st.sampled_from([0.1, 0.5, 1e300, -5e-324, -0.0, 2.0**24 + 1]),
)  # fmt: skip
NAMES = st.sampled_from(["year", "price", "größe"])
LISTS = st.lists(WORDS, max_size=4, unique=True)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "title": WORDS, "categories": LISTS, "tags": LISTS, "numbers": st.dictionaries(NAMES, NUMBERS),
        "texts": st.dictionaries(NAMES, WORDS), "create_s": st.sampled_from([0.0, 1.5, NOW_S]),
        "expire_s": st.sampled_from([None, NOW_S, NOW_S + 0.5, NOW_S + 3]), "available": st.booleans(),
        "deleted": st.booleans(),
    },
)  # fmt: skip


def id_of(key: int) -> str:
    """Ids of all kinds, one a key."""
    return (f"i{key}", f"товар-{key}", f"{key}" * 120, f"\U0001f600{key} ")[key % 4]


class Items(RuleBasedStateMachine):
    """Upserts, deletes, time, growth, and starts from a snapshot that was just taken."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.plain, self.now_s = Catalogue(), dict[int, ItemRow](), NOW_S
        self.folder = TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(limits, "CATALOG_STEPS_ITEM_COUNT", 8)  # as if it were large
        self.patch.setattr("serving.texts.SMALL_COUNT_MAX", 8)
        self.patch.setattr(limits, "CATALOG_AHEAD_COUNT", 20)
        self.patch.setattr(limits, "EXPIRED_COUNT_MAX", 3)

    def teardown(self) -> None:
        self.folder.cleanup()
        self.patch.undo()

    @rule(rows=st.lists(st.tuples(KEYS, CHANGES), min_size=1, max_size=12))
    def upsert(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        items = [item(key, **{"id": id_of(key), **changes}) for key, changes in rows]
        revision = self.view.revision
        self.work_ahead(items)
        self.view.apply(items, self.now_s)
        self.plain.update({row.key: row for row in items})
        assert self.view.revision > revision

    @rule(key=KEYS, title=WORDS)
    def rename(self, key: int, title: str) -> None:
        if key in self.plain:
            self.plain[key] = self.plain[key]._replace(title=title)
            self.view.apply([self.plain[key]], self.now_s)

    @rule(first=st.integers(41, 4_000), count=st.integers(1, 30))
    def grow(self, first: int, count: int) -> None:
        items = [item(key, id=id_of(key), texts={"price": f"p{key}"}) for key in range(first, first + count)]
        self.view.apply(items, self.now_s)
        self.plain.update({row.key: row for row in items})

    @rule(seconds_s=st.sampled_from([0.25, 1.0, 5.0]))
    def wait(self, seconds_s: float) -> None:
        self.now_s += seconds_s

    @rule()
    def rest(self) -> None:
        self.view.rest()
        self.work_ahead([])

    def work_ahead(self, rows: list[ItemRow]) -> None:
        """As another thread does it, with looks at the view in between."""
        for work in self.view.work_ahead(rows):
            adopt = work()
            self.view.expire(self.now_s)
            self.agrees()
            if adopt is not None:
                adopt()

    @rule()
    def begin_again(self) -> None:
        if not self.plain:
            return
        file, before = CatalogueFile(Path(self.folder.name)), self.view
        with file.writing() as half:
            assert half is not None
            half.write(before.parts())
            half.publish(Origin("d", "1:1:"), "m", self.now_s)
        snapshot = file.read()
        assert snapshot is not None
        self.view = Catalogue()
        self.view.adopt(snapshot.catalogue(self.now_s))
        assert self.view.size == before.size

    @invariant()
    def agrees(self) -> None:
        view, plain = self.view, self.plain
        view.expire(self.now_s)
        assert view.size == max(plain, default=-1) + 1
        usable = [k for k, row in sorted(plain.items()) if self.is_usable(row)]
        assert np.flatnonzero(view.usable).tolist() == usable
        ends_s = [float(plain[key].expire_s or math.inf) for key in usable]
        assert self.now_s < view.next_expire_s <= min(ends_s, default=math.inf)
        known = [key for key in plain if not plain[key].deleted]
        ids = [id_of(key) for key in plain]
        assert view.keys_of([*ids, "nobody", "a\0b"]).tolist() == known
        assert view.ids_of(list(plain)) == ids == [view.id_of(key) for key in plain]
        for key, row in list(plain.items())[-12:]:
            self.agrees_on(key, row)

    def is_usable(self, row: ItemRow) -> bool:
        expires_s = math.inf if row.expire_s is None else row.expire_s
        return row.available and not row.deleted and expires_s > self.now_s

    def agrees_on(self, key: int, row: ItemRow) -> None:
        view = self.view
        assert view.joined_ids_of(np.array([key], dtype=np.int32)).tobytes().decode() == row.id
        assert view.key_of(row.id) == (None if row.deleted else key)
        assert view.created_s[key] == row.create_s
        assert view.title.value(key) == (row.title or None)
        assert view.categories.values(key) == list(row.categories)
        assert view.tags.values(key) == list(row.tags)
        assert int(view.category_bits[key]) == sum({1 << hash_bit(name) for name in row.categories})
        for name, numbers in view.numbers.items():
            found = numbers.view(view.size)[key]
            assert found == row.numbers[name] if name in row.numbers else np.isnan(found)
        for name, texts in view.texts.items():
            assert texts.value(key) == row.texts.get(name)

    @initialize()
    def begin(self) -> None:
        assert self.view.next_expire_s == math.inf


TestItems = Items.TestCase
TestItems.settings = settings(
    max_examples=max(1, STEPS // STEPS_EACH),
    stateful_step_count=STEPS_EACH,
    deadline=None,
    derandomize=STEPS == STEPS_DEFAULT,
)
