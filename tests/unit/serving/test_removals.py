"""What is told to be gone against looks that begin before and after it, in every order, against the plain truth."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from profiles.item_news import ItemNews
from serving.catalogue_file import Origin
from serving.removals import Removals, is_in
from tests.unit.serving.items import item

DATABASE = "a database"
KEYS = st.integers(1, 4)


def news(xid: int, *gone: int, database: str = DATABASE) -> ItemNews:
    return ItemNews(database, xid, gone)


def test_is_in_tells_committed_from_running_and_later_ones() -> None:
    shown = [xid for xid in range(8, 16) if is_in("10:14:11,13", xid)]
    assert shown == [8, 9, 10, 12]
    assert is_in("10:10:", 9)
    assert not is_in("10:10:", 10)


def test_take_when_it_is_of_another_database_takes_nothing() -> None:
    assert list(Removals().take(news(20, 1, database="other"), Origin(DATABASE, "10:10:"))) == []


def test_take_when_nothing_was_ever_looked_at_takes_nothing() -> None:
    assert list(Removals().take(news(20, 1), None)) == []


def test_first_look_when_an_item_is_gone_meanwhile_does_not_bring_it_back() -> None:
    removals = Removals()
    removals.begin()
    removals.see(Origin(DATABASE, "10:20:15"), follows_on=False)
    assert list(removals.rows([item(1), item(2)])) == [item(1), item(2)]
    assert list(removals.take(news(15, 2, 3), None)) == [2, 3]  # put already
    assert list(removals.rows([item(3), item(4)])) == [item(4)]
    assert list(removals.take(news(12, 5), None)) == []  # the look shows what became of it


def test_take_when_more_is_told_than_is_kept_still_takes_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.limits.REMOVED_COUNT_MAX", 1)
    removals = Removals()
    removals.begin()
    view = Origin(DATABASE, "10:10:")
    assert list(removals.take(news(20, 1), view)) == [1]
    assert list(removals.take(news(21, 2), view)) == [2]


class Interleavings(RuleBasedStateMachine):
    """A table with transactions that commit in any order, news that come late and in any order, looks that take their time.

    Promised: an item whose removal was told, and that no later transaction brought back, is not in the view; a look that begins
    after everything was committed leaves the view as the table is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.next_xid = 10
        self.table: dict[int, tuple[int, bool]] = dict.fromkeys(range(1, 5), (1, True))  # last xid, offered
        self.open: dict[
            int, tuple[int, bool]
        ] = {}  # by xid: the key that it has locked, and what it makes of it
        self.untold: list[ItemNews] = []
        self.told: dict[int, int] = {}  # by key: the removal told last that is the table's last word
        self.view: dict[int, bool] = dict.fromkeys(range(1, 5), True)
        self.view_of = Origin(DATABASE, self.snapshot())
        self.removals = Removals()
        self.look: Origin | None = None
        self.rows: list[tuple[int, bool]] = []
        self.stage = "idle"

    def snapshot(self) -> str:
        running = sorted(self.open)
        return f"{min(running, default=self.next_xid)}:{self.next_xid}:{','.join(map(str, running))}"

    @rule(key=KEYS, offered=st.booleans())
    def change(self, key: int, offered: bool) -> None:
        if key not in {key for key, _ in self.open.values()}:  # its row is locked
            self.open[self.next_xid] = (key, offered)
        self.next_xid += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        xid = data.draw(st.sampled_from(sorted(self.open)))
        key, offered = self.open.pop(xid)
        self.table[key] = (xid, offered)
        self.untold.append(ItemNews(DATABASE, xid, () if offered else (key,)))

    @precondition(lambda self: self.untold)
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        news = self.untold.pop(data.draw(st.integers(0, len(self.untold) - 1)))
        for key in self.removals.take(news, self.view_of):
            self.view[key] = False
        for key in news.gone:
            if self.table[key] == (news.xid, False):
                self.told[key] = news.xid

    @precondition(lambda self: self.stage == "idle")
    @rule()
    def begin(self) -> None:
        self.removals.begin()
        self.stage = "begun"

    @precondition(lambda self: self.stage == "begun")
    @rule()
    def read(self) -> None:
        """Postgres takes the snapshot; we don't have its answer yet."""
        self.look, seen = Origin(DATABASE, self.snapshot()), self.view_of.pg_snapshot
        self.rows = [(key, offered) for key, (xid, offered) in self.table.items() if not is_in(seen, xid)]
        self.stage = "read"

    @precondition(lambda self: self.stage == "read")
    @rule()
    def see(self) -> None:
        assert self.look is not None
        self.removals.see(self.look, follows_on=True)
        self.stage = "seen"

    @precondition(lambda self: self.stage == "seen" and self.rows)
    @rule(count=st.integers(1, 3))
    def put(self, count: int) -> None:
        batch, self.rows = self.rows[:count], self.rows[count:]
        for row in self.removals.rows([item(key, available=offered) for key, offered in batch]):
            self.view[row.key] = row.available

    @precondition(lambda self: self.stage == "seen" and not self.rows)
    @rule()
    def end(self) -> None:
        assert self.look is not None
        self.removals.end()
        self.view_of, self.stage = self.look, "idle"

    @precondition(lambda self: self.stage != "idle")
    @rule()
    def fail(self) -> None:
        self.removals.end()
        self.rows, self.stage = [], "idle"

    @invariant()
    def what_was_told_to_be_gone_is_gone(self) -> None:
        for key, xid in self.told.items():
            if self.table[key] == (xid, False):
                assert not self.view[key]

    def teardown(self) -> None:
        """Two looks in peace: the second finds what a failed one, or a late word, has left."""
        if self.stage == "begun":
            self.read()
        if self.stage == "read":
            self.see()
        while self.stage == "seen" and self.rows:
            self.put(3)
        if self.stage == "seen":
            self.end()
        for xid in sorted(self.open):
            key, offered = self.open.pop(xid)
            self.table[key] = (xid, offered)
            self.untold.append(ItemNews(DATABASE, xid, () if offered else (key,)))
        self.begin()
        self.read()
        self.see()
        self.put(len(self.table))
        self.end()
        for news in self.untold:  # late words of what the view shows already
            assert list(self.removals.take(news, self.view_of)) == []
        assert self.view == {key: offered for key, (_, offered) in self.table.items()}


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None, derandomize=True
)
