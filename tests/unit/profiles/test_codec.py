"""Profiles: merging, coding, bounds. The slow twin is tests/oracles/profile_oracle.py."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from profiles import kernels, limits
from profiles.codec import ProfileDamagedError, applied_offset_of, decode, merge, pack_event
from tests.oracles import profile_oracle

KEYS = st.one_of(st.integers(1, 300), st.integers(1, 50_000), st.integers(1, limits.ITEM_KEY_MAX))
EVENTS = st.lists(
    st.builds(pack_event, st.integers(0, 2**32 - 1), st.integers(1, 10), KEYS), min_size=1, max_size=400
)
KEY_SETS = st.sets(KEYS, min_size=1, max_size=400)


def packed(events: list[int]) -> np.ndarray:
    return np.array(events, np.uint64)


@given(EVENTS)
def test_merge_of_one_batch_equals_the_oracle(events: list[int]) -> None:
    profile = decode(merge(None, packed(events), 7))

    ring, seen = profile_oracle.merged(events)
    assert [
        pack_event(t, c, k)
        for t, c, k in zip(profile.times.tolist(), profile.codes.tolist(), profile.keys.tolist(), strict=True)
    ] == ring
    assert profile.seen_keys.tolist() == seen
    assert profile.first_time == min(events) >> 32


@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 50))
def test_merge_in_any_order_and_batching_gives_the_same_ring_and_seen(events, random, size) -> None:  # type: ignore[no-untyped-def]
    expected = decode(merge(None, packed(events), 1))
    random.shuffle(events)

    value = None
    for start in range(0, len(events), size):
        value = merge(value, packed(events[start : start + size]), 1)

    assert value is not None
    actual = decode(value)
    for name in ("keys", "codes", "times", "seen_keys"):
        assert getattr(actual, name).tolist() == getattr(expected, name).tolist()
    assert (actual.event_count, actual.first_time) == (expected.event_count, expected.first_time)


@given(EVENTS, EVENTS)
def test_merge_twice_changes_neither_ring_nor_seen(first: list[int], second: list[int]) -> None:
    once = merge(merge(None, packed(first), 1), packed(second), 2)
    twice = merge(merge(once, packed(first), 1), packed(second), 2)

    before, after = decode(once), decode(twice)
    for name in ("keys", "codes", "times", "seen_keys"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist()
    assert after.applied_offset == before.applied_offset == 2


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, limits.ITEM_KEY_MAX))
def test_value_never_grows_beyond_its_bound(seed: int, key_max: int) -> None:
    rng = np.random.default_rng(seed)
    value = None
    for _ in range(40):
        times, keys = rng.integers(0, 2**32, 100), rng.integers(1, key_max + 1, 100)
        value = merge(
            value, packed([pack_event(int(t), 2, int(k)) for t, k in zip(times, keys, strict=True)]), 1
        )
        assert len(value) <= limits.VALUE_BYTES_MAX
    assert len(decode(value).keys) == limits.RING_EVENTS_MAX


@given(KEY_SETS, st.integers(0, 27))
def test_rice_coding_equals_the_oracle_and_round_trips(keys: set[int], k: int) -> None:
    assume(
        max(keys) >> k < 4096
    )  # a small k over wide gaps: nobody would choose it, and the oracle takes long
    descending = np.array(sorted(keys, reverse=True), np.int32)
    expected = profile_oracle.rice_bytes(descending.tolist(), k)
    coded, decoded = np.zeros(len(expected), np.uint8), np.empty(len(keys), np.int32)

    kernels.encode_seen(descending, k, coded)

    assert coded.tobytes() == expected
    assert kernels.decode_seen(coded, len(keys), k, decoded) == len(keys)
    assert decoded.tolist() == descending.tolist()


@given(KEY_SETS, st.integers(4, 400))
def test_plan_holds_as_many_of_the_largest_keys_as_fit(keys: set[int], bytes_max: int) -> None:
    descending = np.array(sorted(keys, reverse=True), np.int32)
    plan = np.empty(3, np.int64)

    kernels.plan_seen(descending, bytes_max, plan)

    count, k, size = plan.tolist()
    assert descending[:count].tolist() == profile_oracle.largest_that_fit(keys, bytes_max)
    assert size == len(profile_oracle.rice_bytes(descending[:count].tolist(), k)) <= bytes_max


@given(st.binary(max_size=900), st.booleans())
def test_decode_of_any_bytes_gives_a_profile_or_says_that_it_is_damaged(value: bytes, ours: bool) -> None:
    with contextlib.suppress(ProfileDamagedError):
        profile = decode(b"\x01" + value if ours else value)
        assert len(profile.keys) == len(profile.codes) == len(profile.times)


@given(EVENTS, st.integers(0, 900), st.integers(1, 255))
def test_decode_of_an_altered_profile_never_crashes(events: list[int], place: int, change: int) -> None:
    value = bytearray(merge(None, packed(events), 5))
    value[place % len(value)] ^= change

    with contextlib.suppress(
        ProfileDamagedError
    ):  # said, or read as another profile; anything else fails here
        assert len(decode(bytes(value)).keys) <= 255


def test_decode_of_nothing_is_an_empty_profile() -> None:
    profile = decode(None)

    assert (len(profile.keys), len(profile.seen_keys), profile.applied_offset, profile.event_count) == (
        0,
        0,
        0,
        0,
    )


def test_decode_when_cut_short_says_how_many_bytes_are_missing() -> None:
    value = merge(None, packed([pack_event(5, 1, 9)]), 3)

    with pytest.raises(ProfileDamagedError, match="31 bytes where its header says 32"):
        decode(value[:-1])


def test_applied_offset_never_goes_back_and_reads_without_decoding() -> None:
    value = merge(merge(None, packed([1]), 9), packed([2]), 4)

    assert applied_offset_of(value) == decode(value).applied_offset == 9
    assert applied_offset_of(None) == applied_offset_of(b"\x01short") == 0


@pytest.mark.parametrize("event", [(-1, 1, 1), (2**32, 1, 1), (0, 16, 1), (0, 1, 2**28)])
def test_pack_event_beyond_its_bits_is_refused(event: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not an event of the ring"):
        pack_event(*event)


@pytest.mark.parametrize("size", [1, 17, 200])
def test_merge_of_more_events_than_the_ring_has_keeps_the_newest_and_remembers_the_items_of_the_others(
    size: int,
) -> None:
    order = np.random.default_rng(5).permutation(200).tolist()
    events = [pack_event(1_000 + i, 1 + i % 3, 7 * i + 1) for i in order]

    value = None
    for start in range(0, len(events), size):
        value = merge(value, packed(events[start : start + size]), 1)

    profile = decode(value)
    newest = range(200 - limits.RING_EVENTS_MAX, 200)
    assert profile.times.tolist() == [1_000 + i for i in newest]
    assert profile.codes.tolist() == [1 + i % 3 for i in newest]
    assert profile.keys.tolist() == [7 * i + 1 for i in newest]
    assert profile.seen_keys.tolist() == [7 * i + 1 for i in range(newest.start)]
    assert (profile.event_count, profile.first_time) == (200, 1_000)
