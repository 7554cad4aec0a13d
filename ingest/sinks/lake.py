"""Events into the lake: Parquet by date and hour of acceptance, each file whole or not there.

Exactly once: a partition's files are numbered, a number can be made once, entries come in order, and what the newest file
holds already is skipped. So a batch that was written but not acknowledged changes nothing when it comes again, and a process
that was paused while another took over finds its number taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import structlog
from redis.asyncio import Redis

from ingest import limits
from ingest.events import StreamEvent
from ingest.lake.files import LakeFiles
from ingest.lake.listing import End, end_of
from ingest.lake.names import Part, folder_of, part_of
from ingest.lake.table import to_parquet, to_table
from ingest.rebuild.positions import raise_last_id
from profiles.offsets import SEQUENCE_BITS, entry_id_of
from runtime.errors import StateError

HOUR_MS = 3_600_000


class LakeSink:
    """One partition's events. `check` raises when the partition may have gone to another process."""

    batch_events_max = limits.LAKE_BATCH_EVENTS_MAX
    fill_s = limits.LAKE_FILL_S_MAX

    def __init__(self, files: LakeFiles, partition: int, check: Callable[[], None]) -> None:
        self._files = files
        self._partition = partition
        self._check = check
        self._end: End | None = None  # not learnt yet

    def restart(self) -> None:
        """Another process may have written meanwhile: what the lake has is learnt anew."""
        self._end = None

    async def write(self, events: Sequence[StreamEvent]) -> None:
        """Writes events that the lake does not have, one file an hour. Raises OverloadError, StateError, DependencyError."""
        await asyncio.to_thread(self._write, events)

    def _write(self, events: Sequence[StreamEvent]) -> None:
        if self._end is None:
            self._end = end_of(self._files, self._partition)
        committed = self._end.offset
        for hour_ms, run in _by_hour([event for event in events if event.offset > committed]):
            number = self._end.number + 1
            data = to_parquet(to_table(run), run[-1].offset)
            self._check()
            self._create(Part(folder_of(hour_ms), self._partition, number, number), data)
            self._end = End(number, run[-1].offset)

    def _create(self, part: Part, data: bytes) -> None:
        """A number that is taken is refused by the store; that of a file compacted away since we checked is not, so we look."""
        self._files.create(part.path, data)
        try:
            self._check()
        except StateError:
            names = self._files.list(part.folder)
            if any(other.covers(part) for name in names if (other := part_of(part.folder, name))):
                self._files.remove(part.path)
            raise


async def lift_ids(redis: Redis, files: LakeFiles, partition: int) -> None:
    """Makes new entries lie above all that the lake has of a partition. Before reading begins anew; it costs one look.

    A replica that took over may lack what its primary had handed to the sink already. Where its clock is behind, too, new
    entries would get ids that the sink takes for written. Raises DependencyError.
    """
    end = await asyncio.to_thread(end_of, files, partition)
    if await raise_last_id(redis, partition, end.offset):
        message = "the stream had lost what the lake has: new entries go behind that"
        structlog.get_logger().warning(message, partition=partition, last=entry_id_of(end.offset))


def _by_hour(events: Sequence[StreamEvent]) -> Iterator[tuple[int, list[StreamEvent]]]:
    """Runs of the same hour, in order. The hour is the entry's: it never goes back, as the clock of a host may."""
    hours = groupby(events, key=lambda event: (event.offset >> SEQUENCE_BITS) // HOUR_MS)
    return ((hour * HOUR_MS, list(run)) for hour, run in hours)
