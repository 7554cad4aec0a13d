"""Whose turn a unit is: its owner's; or of who finds that the owner, though it lives, has let its lease run out."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from ingest import limits
from ingest.assignment import Unit, assign, units_of
from ingest.lease import Lease
from ingest.membership import Membership
from ingest.turn import Turn
from runtime.clock import ManualClock

PARTITIONS = 2


@dataclass(frozen=True)
class Pair:
    """Two members that know of each other, and how each sees a unit that is the first one's."""

    clock: ManualClock
    unit: Unit
    owner: Turn
    other: Turn
    members: tuple[Membership, Membership]


async def make_pair(redis: Redis) -> Pair:
    clock = ManualClock()
    members = [Membership(redis, name, PARTITIONS, clock) for name in ("one", "two")]
    for member in (*members, *members):
        await member.beat()
    later = assign(units_of(PARTITIONS), ["one", "two", "three"])
    unit = next(unit for unit, owner in later.items() if members[0].owns(*unit) and owner != "two")
    owner, other = (Turn(each, unit, Lease(redis, *unit, each.name, clock), clock) for each in members)
    return Pair(clock, unit, owner, other, (members[0], members[1]))


async def adopted(pair: Pair) -> bool:
    """Whether the other takes it at a second look."""
    assert not await pair.other.take()
    pair.clock.advance(limits.ADOPT_AFTER_S)
    return await pair.other.take()


async def test_an_owner_takes_its_unit_at_once_and_nobody_else_does(redis: Redis) -> None:
    pair = await make_pair(redis)

    assert await pair.owner.take()
    assert not await adopted(pair)
    assert await pair.owner.take()


async def test_a_unit_whose_lease_is_free_for_long_is_adopted(redis: Redis) -> None:
    pair = await make_pair(redis)

    assert await adopted(pair)
    assert not await pair.owner.take()


async def test_a_unit_that_its_owner_took_between_two_looks_is_not_adopted(redis: Redis) -> None:
    pair = await make_pair(redis)
    assert not await pair.other.take()
    assert await pair.owner.take()
    pair.clock.advance(limits.ADOPT_AFTER_S)

    assert not await pair.other.take()


async def test_an_adopted_unit_goes_back_to_an_owner_that_is_well_after_a_while(redis: Redis) -> None:
    pair = await make_pair(redis)
    assert await adopted(pair)

    pair.clock.advance(limits.ADOPTED_S)

    assert not await pair.other.take()
    assert await pair.owner.take()


async def test_an_adopted_unit_goes_back_when_the_shares_change(redis: Redis) -> None:
    pair = await make_pair(redis)
    assert await adopted(pair)
    await Membership(redis, "three", PARTITIONS, pair.clock).beat()
    await pair.members[1].beat()  # the first after a silence: it is not believed yet
    assert await pair.other.take()

    pair.clock.advance(limits.BEAT_EVERY_S)
    await pair.members[1].beat()

    assert not await pair.other.take()
    assert await pair.owner.take()


async def test_a_unit_that_moves_to_another_share_is_not_adopted_by_who_gave_it_back(redis: Redis) -> None:
    clock = ManualClock()
    member = Membership(redis, "one", PARTITIONS, clock)
    later = assign(units_of(PARTITIONS), ["one", "two"])
    unit = next(unit for unit, owner in later.items() if owner == "two")
    turn = Turn(member, unit, Lease(redis, *unit, "one", clock), clock)
    assert not await turn.take()  # before the first beat: it is free, and nobody's
    await member.beat()
    assert await turn.take()
    clock.advance(limits.ADOPT_AFTER_S)

    await Membership(redis, "two", PARTITIONS, clock).beat()
    await member.beat()
    clock.advance(limits.BEAT_EVERY_S)
    await member.beat()

    assert not member.owns(*unit)
    assert not await turn.take()
