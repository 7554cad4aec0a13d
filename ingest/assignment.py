"""Who carries what: the units of the stream shared out among the consumer processes. Each finds the same answer by itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection

from ingest.stream import SINKS

Unit = tuple[int, str]  # partition, sink


def units_of(partition_count: int) -> list[Unit]:
    """All there is to carry."""
    return [(partition, sink) for partition in range(partition_count) for sink in SINKS]


def assign(units: Collection[Unit], members: Collection[str]) -> dict[Unit, str]:
    """A member for each unit; nothing when there are no members. None has two units more than another.

    Rendezvous hashing (Thaler and Ravishankar 1998) with a bound on each member: pairs of unit and member are taken in the
    order of their hashes, so that a member that comes or goes moves few units beside its own. First nobody gets more than a
    fair share of a sink, for one sink costs more than another; then what is left goes where there is room.
    """
    owner_of: dict[Unit, str] = {}
    if not members:
        return owner_of
    pairs = sorted((_weight(unit, member), unit, member) for unit in set(units) for member in set(members))
    shares = _Shares(len(set(units)), len(set(members)))
    partition_count = len({partition for partition, _ in units})
    for of_sink_max in (-(-partition_count // len(set(members))), partition_count):
        for _, unit, member in pairs:
            if unit not in owner_of and shares.take(unit, member, of_sink_max):
                owner_of[unit] = member
    return owner_of


class _Shares:
    """How much each member has. Only so many get the larger share that there are enough units for the others."""

    def __init__(self, unit_count: int, member_count: int) -> None:
        self._share, self._larger_left = divmod(unit_count, member_count)
        self._count: Counter[str] = Counter()
        self._of_sink: Counter[tuple[str, str]] = Counter()

    def take(self, unit: Unit, member: str, of_sink_max: int) -> bool:
        """Whether the member has room for the unit; then it has it."""
        kind = (member, unit[1])
        is_larger = self._count[member] == self._share
        if self._count[member] > self._share or self._of_sink[kind] >= of_sink_max:
            return False
        if is_larger and not self._larger_left:
            return False
        self._larger_left -= is_larger
        self._count[member] += 1
        self._of_sink[kind] += 1
        return True


def _weight(unit: Unit, member: str) -> bytes:
    """The same in every process, unlike `hash`."""
    return hashlib.blake2b(f"{unit[0]}:{unit[1]}:{member}".encode(), digest_size=8).digest()
