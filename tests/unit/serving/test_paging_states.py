"""Pages of one list against plain sets, while items come, change and go, time passes, models swap and surfaces are rewritten.

RECO_STATE_STEPS sets how many steps are taken altogether (default 600): RECO_STATE_STEPS=10000 makes a long run.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest, RecommendResponse

from profiles.codec import Profile, decode, merge, pack_event
from profiles.signals import Signal
from runtime.clock import ManualClock
from serving import pipeline
from serving.catalogue import Catalogue, ItemRow
from serving.drift import DriftWatch
from serving.effort import Budget
from serving.eligibility import EligibilityCache
from serving.engine import Engine
from serving.live_items import LiveItems
from serving.stopwatch import Stopwatch
from serving.surface_file import read
from serving.surfaces import Surfaces
from serving.trending import TrendingList
from tests.unit.serving.items import NOW_S, item
from tests.unit.serving.test_eligibility import model_of

STEPS = int(os.environ.get("RECO_STATE_STEPS", "600"))
STEPS_EACH = 60  # of one sequence: fifty pages and what happens between them
FAR_S = 60.0

Holds = Callable[[ItemRow], bool]
# A file, and what an item must be to be answered by it.
FILES: list[tuple[bytes, Holds]] = [
    (b"", lambda row: True),
    (b"[default]\nmax_per_category = 1\n", lambda row: True),
    (b"[default]\nfilter = 'tags:a'\ndiversity = 0.5\nexploration = 0.3\n", lambda row: "a" in row.tags),
    (
        b"""[default]
        include_seen = true
        [[default.pins]]
        item = "i7"
        place = 3
        [[default.pins]]
        item = "i40"
        place = 30
        [[default.promotions]]
        filter = "tags:a"
        share = 0.4
        [[default.boosts]]
        filter = "categories:x"
        weight = 0.5""",
        lambda row: True,
    ),
    (
        b"""[default]
        merging = "turns"
        turns = ["new", "personal", "trending"]
        quotas = { personal = 2, popular = 1, new = 3 }
        max_per_category = 2
        [[default.promotions]]
        items = ["i3", "i5", "i61"]
        share = 0.2""",
        lambda row: True,
    ),
]
KEYS = st.integers(1, 70)
LISTS = st.lists(st.sampled_from(["a", "b", "x", "y", "z"]), max_size=2, unique=True)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "categories": LISTS, "tags": LISTS, "expire_s": st.sampled_from([None, NOW_S + 3, NOW_S + 50]),
        "available": st.sampled_from([True, True, False]), "deleted": st.sampled_from([False, False, True]),
    },
)  # fmt: skip


class Reader:
    """The profile of everybody who asks: two items were touched."""

    SEEN = (2, 4)

    async def read(self, asker: Any, deadline_s: float) -> tuple[Profile, list[Any]]:
        events = [pack_event(int(NOW_S), Signal.CLICK, key) for key in self.SEEN]
        return decode(merge(None, np.array(events, dtype=np.uint64), 1)), []


def engine_of(catalogue: Catalogue, clock: ManualClock) -> Engine:
    eligibility = EligibilityCache(catalogue)
    trending = TrendingList(np.array([9, 4, 33, 60], np.int32), np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    parts: dict[str, Any] = {
        "follower": SimpleNamespace(is_stale=False),
        "models": SimpleNamespace(current=None),
        "profiles": Reader(),
        "trending": SimpleNamespace(current=trending),
        "drift": DriftWatch(lambda: None, 1),
        "live": LiveItems(catalogue),
    }
    bytes_of = random.Random(5).randbytes
    return Engine(
        catalogue=catalogue,
        eligibility=eligibility,
        clock=clock,
        random_bytes=bytes_of,
        surfaces=Surfaces(),
        **parts,
    )


class Paging(RuleBasedStateMachine):
    """One list at a time, page by page; a new one when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.plain, self.clock = Catalogue(), dict[int, ItemRow](), ManualClock(NOW_S)
        self.engine = engine_of(self.view, self.clock)
        self.loop = asyncio.new_event_loop()
        self.holds = FILES[0][1]
        self.models = [None, model_of("odd", *range(1, 60, 2)), model_of("all", *range(1, 61))]
        self.token, self.shown, self.pages = "", list[int](), 0

    def teardown(self) -> None:
        self.loop.close()

    @initialize(which=st.sampled_from([0, 1, 2, 2]))
    def begin(self, which: int) -> None:
        rows = [item(key, categories=["xyz"[key % 3]], tags=["a"] * (key % 2)) for key in range(1, 61)]
        self.apply(*rows)
        self.swap(which)

    def apply(self, *rows: ItemRow) -> None:
        self.view.apply(rows, self.clock.time_s())
        self.plain.update({row.key: row for row in rows})

    @rule(rows=st.lists(st.tuples(KEYS, CHANGES), min_size=1, max_size=6))
    def upsert(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        self.apply(*(item(key, **changes) for key, changes in rows))

    @rule(key=KEYS, change=st.sampled_from([{"deleted": True}, {"available": False}]))
    def withdraw(self, key: int, change: dict[str, Any]) -> None:
        if key in self.plain:
            self.apply(self.plain[key]._replace(**change))

    @rule(first=st.integers(71, 400), count=st.integers(1, 30))
    def grow(self, first: int, count: int) -> None:
        self.apply(*(item(key, tags=["a"], categories=["z"]) for key in range(first, first + count)))

    @rule(seconds_s=st.sampled_from([1.0, 5.0]))
    def wait(self, seconds_s: float) -> None:
        self.clock.advance(seconds_s)

    @rule(which=st.integers(0, 2))
    def swap(self, which: int) -> None:
        self.engine.models.current = self.models[which]  # type: ignore[misc]  # a stand-in, of which it is all that is read

    @rule(which=st.integers(0, len(FILES) - 1))
    def rewrite(self, which: int) -> None:
        content, self.holds = FILES[which]
        self.engine.surfaces.current = read("s.toml", content)
        self.engine.surfaces._kept.clear()

    @rule(page_size=st.sampled_from([1, 2, 5, 20, 200]))
    def ask(self, page_size: int) -> None:
        request = RecommendRequest(user_id="u", page_size=page_size, page_token=self.token)
        asked = pipeline.recommend(request, self.engine, Budget.of(FAR_S), Stopwatch())
        answer = RecommendResponse.FromString(self.loop.run_until_complete(asked).body)
        rules = self.engine.surfaces.rules_of(request)
        keys = [int(each.item_id[1:]) for each in answer.items]
        assert len(keys) <= page_size
        assert len(set(keys)) == len(keys)
        assert not set(keys) & set(self.shown)
        pinned = {int(pin.item_id[1:]) for pin in rules.pins}
        allowed = self.allowed(() if rules.include_seen else Reader.SEEN)
        assert set(keys) <= allowed | (pinned & self.allowed(()))
        if rules.max_per_category:
            names = Counter(name for key in keys for name in self.plain[key].categories)
            assert max(names.values(), default=0) <= rules.max_per_category
        for pin in rules.pins:
            key, at = int(pin.item_id[1:]), pin.place - 1 - len(self.shown)
            if 0 <= at < len(keys) and key in self.allowed(()) and key not in self.shown:
                assert keys[at] == key or set(keys[at:]) <= pinned
        self.shown += keys
        self.pages += 1
        self.token = answer.next_page_token
        if not self.token:
            assert not allowed - set(self.shown), "it ends only when nothing is left"
            self.token, self.shown, self.pages = "", [], 0

    def allowed(self, without: tuple[int, ...]) -> set[int]:
        now_s = self.clock.time_s()
        return {
            key
            for key, row in self.plain.items()
            if row.available and not row.deleted and (row.expire_s is None or row.expire_s > now_s)
            if self.holds(row) and key not in without
        }

    @invariant()
    def shown_items_are_distinct(self) -> None:
        assert len(set(self.shown)) == len(self.shown)


Paging.TestCase.settings = settings(
    max_examples=max(1, STEPS // STEPS_EACH),
    stateful_step_count=STEPS_EACH,
    deadline=None,
    derandomize=STEPS == 600,
)
test_pages_of_a_changing_catalogue_never_repeat_and_end_only_when_nothing_is_left = Paging.TestCase
