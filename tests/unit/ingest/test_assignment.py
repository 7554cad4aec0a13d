"""Units among processes: balanced, the same for all who work it out, and few move when one comes or goes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.assignment import assign, units_of

MEMBERS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True)
# Beside what must move to or from the one that comes or goes, for the shares of the others to stay balanced.
MOVED_BESIDE_MAX = 0.25


@given(st.integers(1, 40), MEMBERS)
def test_every_unit_has_an_owner_and_no_member_two_more_than_another(
    partition_count: int, members: list[str]
) -> None:
    units = units_of(partition_count)

    owner_of = assign(units, members)

    counts = Counter(dict.fromkeys(members, 0))
    counts.update(owner_of.values())
    assert set(owner_of) == set(units)
    assert set(counts) == set(members)
    assert max(counts.values()) - min(counts.values()) <= 1


@given(st.integers(1, 20), MEMBERS, st.randoms())
def test_the_order_in_which_members_are_told_changes_nothing(
    partition_count: int, members: list[str], random: object
) -> None:
    shuffled = members[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert assign(units_of(partition_count), members) == assign(units_of(partition_count), shuffled)


@pytest.mark.parametrize("partition_count", [4, 16, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_a_member_that_comes_or_goes_moves_few_units_beside_its_own(partition_count: int, count: int) -> None:
    units = units_of(partition_count)
    fewer = [f"member-{i}" for i in range(count)]

    before, after = assign(units, fewer), assign(units, [*fewer, "newcomer"])

    beside = sum(before[unit] != after[unit] != "newcomer" for unit in units)
    assert beside <= MOVED_BESIDE_MAX * len(units)


def test_a_sink_is_spread_where_the_numbers_allow() -> None:
    owner_of = assign(units_of(4), ["a", "b"])

    for sink in ("profile", "postgres", "lake"):
        assert Counter(owner for unit, owner in owner_of.items() if unit[1] == sink) == {"a": 2, "b": 2}


def test_without_members_nothing_is_assigned() -> None:
    assert assign(units_of(3), []) == {}
