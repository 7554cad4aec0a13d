"""Whether the next batch of a unit is this process's: it is in its share, or its owner has let it lie for long."""

from __future__ import annotations

import structlog

from ingest import limits
from ingest.assignment import Unit
from ingest.lease import Lease
from ingest.membership import Membership
from runtime.clock import Clock

NEVER_S = float("-inf")


class Turn:
    """One unit as this process sees it.

    A process can live and yet hang in one write: it beats on, so the unit stays in its share, but its lease runs out. Whoever
    finds the lease free at two looks in a row adopts the unit for a while.
    """

    def __init__(self, member: Membership, unit: Unit, lease: Lease, clock: Clock) -> None:
        self._member = member
        self._unit = unit
        self._lease = lease
        self._clock = clock
        self._looked_s = NEVER_S
        self._was_free = False
        self._adopted_s = NEVER_S
        self._adopted_in = -1  # which shares of the member's

    async def take(self) -> bool:
        """Takes, renews or gives back the lease; whether we have it. Raises DependencyError."""
        if self._member.owns(*self._unit) or self._is_adopted():
            self._was_free = False  # a look from before says nothing of the owner to come
            return await self._lease.hold()
        await self._lease.release()
        return await self._adopt()

    def _is_adopted(self) -> bool:
        """Until the shares change, or the owner is to have another chance."""
        lasts = self._clock.monotonic_s() - self._adopted_s < limits.ADOPTED_S
        return lasts and self._adopted_in == self._member.share_count

    async def _adopt(self) -> bool:
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < limits.ADOPT_AFTER_S:
            return False
        self._looked_s, was_free = now_s, self._was_free
        self._was_free = await self._lease.is_free()
        if not (was_free and self._was_free and await self._lease.hold()):
            return False
        self._adopted_s, self._adopted_in, self._was_free = now_s, self._member.share_count, False
        partition, sink = self._unit
        structlog.get_logger().warning("adopted what its owner lets lie", partition=partition, sink=sink)
        return True
