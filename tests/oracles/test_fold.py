"""Profiles of whole histories against merging them piece by piece, byte for byte; repetitions against a plain loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiles.codec import decode, merge, pack_event
from profiles.fold import Histories, fold
from profiles.kernels import drop_repeated
from profiles.limits import ITEM_KEY_MAX
from profiles.trending import WEEK_S, counts, sums

HOUR_S = 3_600.0
TTL_S = 86_400.0
EVENT = st.tuples(
    st.one_of(st.integers(0, 2**32 - 1), st.integers(1000, 1010)),
    st.integers(0, 15),
    st.one_of(st.integers(1, 40), st.integers(1, ITEM_KEY_MAX)),
)
HISTORIES = st.lists(
    st.tuples(st.integers(1, 9), st.lists(EVENT, min_size=1, max_size=150)), min_size=1, max_size=5
)


def histories(of: list[list[tuple[int, int, int]]], offsets: list[int] | None = None) -> Histories:
    """One subject each; every event an id of its own."""
    times, signals, keys = (
        np.array(column, np.int64) for column in zip(*(event for own in of for event in own), strict=True)
    )
    n = times.shape[0]
    starts = np.cumsum([0, *map(len, of)]).astype(np.int64)
    places = np.array(offsets or range(1, n + 1), np.int64)
    names = [f"u:{i}" for i in range(len(of))]
    return Histories(
        names, starts, times, signals, keys, places, np.arange(n, dtype=np.uint64), np.zeros(n, np.int64)
    )


@given(HISTORIES)
def test_fold_is_what_merging_in_pieces_makes(drawn: list[tuple[int, list[tuple[int, int, int]]]]) -> None:
    folded = fold(histories([events for _, events in drawn]), HOUR_S, TTL_S)

    assert folded.is_kept.all()
    end = 0
    for (step, events), value, applied in zip(drawn, folded.values, folded.applied, strict=True):
        packed = np.array([pack_event(*event) for event in events], np.uint64)
        merged = None
        for start in range(0, len(events), step):
            piece = packed[start : start + step]
            merged = merge(merged, piece, end + start + len(piece))
        end += len(events)
        assert value == merged
        assert applied == end


def test_fold_after_a_silence_has_forgotten_what_was_before() -> None:
    day = 86_400_000 << 16
    folded = fold(histories([[(5, 1, 7), (6, 1, 8), (7, 1, 9)]], [day, 3 * day, 3 * day + 1]), HOUR_S, TTL_S)

    profile = decode(folded.values[0])
    assert (profile.keys.tolist(), profile.event_count, profile.first_time) == ([8, 9], 2, 6)
    assert folded.is_kept.tolist() == [False, True, True]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30), st.integers(0, 8))
def test_repeated_ids_count_again_after_the_window(steps: list[tuple[int, int]], window: int) -> None:
    ids = np.array([which for which, _ in steps], np.uint64)
    times = np.cumsum([step for _, step in steps]).astype(np.int64)
    kept = np.empty(len(steps), np.int64)

    count = drop_repeated(ids, times, window, kept)

    last: dict[int, int] = {}
    expected = []
    for place, (which, time) in enumerate(zip(ids.tolist(), times.tolist(), strict=True)):
        if which not in last or time - last[which] >= window:
            last[which] = time
            expected.append(place)
    assert kept[:count].tolist() == expected


@given(st.lists(EVENT, max_size=50))
def test_sums_of_trending_are_those_of_counting_one_by_one(events: list[tuple[int, int, int]]) -> None:
    now_s = 1_000 + WEEK_S
    columns = [np.array([event[i] for event in events], np.int64) for i in range(3)]

    found, plain = sums(*columns, now_s), counts(events, now_s)

    assert found.keys() == plain.keys()
    for start_s, week in plain.items():
        assert found[start_s].keys() == week.keys()
        assert np.allclose([found[start_s][key] for key in week], list(week.values()))
