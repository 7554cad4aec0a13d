"""Who is among the consumers, by Redis' clock; and what a process makes of a list that it should not believe."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from ingest import limits
from ingest.assignment import units_of
from ingest.membership import Membership, make_name
from ingest.stream import MEMBERS_KEY
from runtime.clock import ManualClock
from runtime.errors import DependencyError
from runtime.redis_client import connect

PARTITIONS = 4
NOWHERE = "redis://127.0.0.1:1"


def owned(*members: Membership) -> list[int]:
    return [sum(member.owns(*unit) for unit in units_of(PARTITIONS)) for member in members]


def member(redis: Redis, name: str, clock: ManualClock) -> Membership:
    return Membership(redis, name, PARTITIONS, clock)


async def test_members_share_all_units_and_none_has_the_same(redis: Redis) -> None:
    one, two = member(redis, "one", ManualClock()), member(redis, "two", ManualClock())
    assert owned(one) == [0]
    await one.beat()
    assert owned(one) == [12]

    await two.beat()
    await one.beat()

    assert owned(one, two) == [6, 6]
    assert all(one.owns(*unit) != two.owns(*unit) for unit in units_of(PARTITIONS))


async def test_who_leaves_is_gone_at_the_next_beat_of_another(redis: Redis) -> None:
    one, two = member(redis, "one", ManualClock()), member(redis, "two", ManualClock())
    await two.beat()
    await one.beat()

    await two.leave()
    await one.beat()

    assert owned(one) == [12]


@pytest.mark.parametrize("late_s", [-2 * limits.MEMBER_TTL_S, 2 * limits.MEMBER_TTL_S])
async def test_who_was_not_heard_for_long_or_comes_from_before_the_clock_went_back_is_dropped(
    late_s: float, redis: Redis
) -> None:
    await redis.zadd(MEMBERS_KEY, {"hung": (time.time() + late_s) * 1000})
    one = member(redis, "one", ManualClock())

    await one.beat()

    assert owned(one) == [12]
    assert await redis.zrange(MEMBERS_KEY, 0, -1) == [b"one"]


async def test_while_redis_is_away_the_last_shares_hold(redis: Redis) -> None:
    one = member(redis, "one", ManualClock())
    await one.beat()
    async with connect(NOWHERE, retries_max=0) as away:
        lost = member(away, "one", ManualClock())
        lost._members, lost._owned = one._members, one._owned
        with pytest.raises(DependencyError):
            await lost.beat()

    assert owned(lost) == [12]


async def test_the_first_list_after_a_silence_is_not_believed(redis: Redis) -> None:
    clock = ManualClock()
    one, two = member(redis, "one", clock), member(redis, "two", clock)
    await two.beat()
    await one.beat()
    await redis.delete(MEMBERS_KEY)  # as if Redis had been away until all were too old
    clock.advance(limits.SILENCE_S_MAX)

    await one.beat()
    first = owned(one)
    clock.advance(limits.BEAT_EVERY_S)
    await one.beat()

    assert (first, owned(one)) == ([6], [12])


def test_names_of_one_process_differ() -> None:
    assert make_name() != make_name()
