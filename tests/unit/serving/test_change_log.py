"""What changed since when, and what expires next, against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import limits
from serving.change_log import ChangeLog
from serving.expiry import Expiries
from tests.unit.serving.items import NOW_S, catalogue_of, item

BATCHES = st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12)
TIMES = st.lists(st.tuples(st.integers(0, 50), st.floats(0, 20)), max_size=60)


@given(BATCHES)
def test_since_when_the_ring_reaches_back_names_every_change(batches: list[list[int]]) -> None:
    log, room = ChangeLog(), 8
    log._keys = np.zeros(room, dtype=np.int32)
    every: list[int] = []
    for keys in batches:
        log.note(np.array(keys, dtype=np.int32))
        every += keys
        assert log.revision == len(every)
        for revision in range(len(every) + 1):
            found = log.since(revision)
            if len(every) - revision > room:
                assert found is None
            else:
                assert found is not None
                assert found.tolist() == sorted(set(every[revision:]))


@given(TIMES, st.floats(0, 25))
def test_due_when_time_comes_takes_out_what_has_come_and_nothing_else(
    times: list[tuple[int, float]], now_s: float
) -> None:
    expiries = Expiries()
    for key, time_s in times:
        expiries.add(np.array([key], dtype=np.int32), np.array([time_s]))
    assert expiries.next_s == min((t for _, t in times), default=np.inf)
    found = expiries.due(now_s)
    assert found is not None
    assert sorted(found.tolist()) == sorted(key for key, t in times if t <= now_s)
    assert expiries.next_s == min((t for _, t in times if t > now_s), default=np.inf)


def test_expire_when_very_many_end_at_once_takes_all_out_and_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "EXPIRED_COUNT_MAX", 4)
    catalogue = catalogue_of(
        *(item(key, expire_s=NOW_S + 1) for key in range(1, 20)), item(20, expire_s=NOW_S + 2)
    )
    revision = catalogue.revision
    catalogue.expire(NOW_S + 1)
    changed = catalogue.changes_since(revision)
    assert changed is not None
    assert changed.tolist() == list(range(1, 20))
    assert np.flatnonzero(catalogue.usable).tolist() == [20]
    assert catalogue.next_expire_s == NOW_S + 2


def test_apply_when_an_item_ends_later_each_time_keeps_the_times_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "EXPIRED_COUNT_MAX", 4)
    catalogue = catalogue_of(item(1))
    for second in range(1, 100):
        catalogue.apply([item(1, expire_s=NOW_S + second)], NOW_S)
        assert catalogue._expiries.size <= catalogue.size + 4
    catalogue.expire(NOW_S + 98)
    assert catalogue.usable[1]
    catalogue.expire(NOW_S + 99)
    assert not catalogue.usable[1]
