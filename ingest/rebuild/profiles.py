"""Redis was lost: profiles, trending counts and the marks of events, from what the lake, Postgres and the stream have.

A profile becomes the fold of all events that its sink had counted, in place of whatever is there: an event counts once, also
one that is written meanwhile, for that one waits in the stream. Run again, or after a kill, it comes to the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
from redis.asyncio import Redis

from ingest.lake.files import LakeFiles, open_lake
from ingest.lake.names import EVENTS
from ingest.lake.query import read
from ingest.lease import Lease
from ingest.limits import DEDUPLICATION_WINDOW_S
from ingest.membership import make_name
from ingest.rebuild import limits, positions, recorded
from ingest.rebuild.apart import apart
from ingest.rebuild.recorded import TAIL, Ends
from ingest.stream import put_marks
from profiles import store, trending
from profiles.fold import Folded, Histories, fold
from profiles.offsets import SEQUENCE_BITS
from runtime.clock import Clock
from runtime.errors import DependencyError
from runtime.postgres import Pool
from runtime.redis_client import redis_errors
from runtime.settings import Settings

DAY_S = 86_400
PROFILE = "profile"


@dataclass
class Rebuilt:
    """What was made. `left_out`: events that were repeated, or forgotten since. `raised`: streams that began too low."""

    profiles: int = 0
    events: int = 0
    left_out: int = 0
    marks: int = 0
    raised: int = 0
    weeks: dict[int, dict[int, float]] = field(default_factory=dict)


Tell = Callable[[Rebuilt], None]


async def rebuild_profiles(
    settings: Settings, redis: Redis, pool: Pool, clock: Clock, tell: Tell = lambda _: None
) -> Rebuilt:
    """Makes them anew; the profile sink waits meanwhile, events are accepted. Tells how far it is.

    Raises DependencyError when a store does not answer, StateError when the leases went to another meanwhile: run it again.
    """
    files = open_lake(settings.lake_url, settings.data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    done = Rebuilt()
    lake = await asyncio.to_thread(recorded.lake_ends, files, settings.partition_count)
    postgres = await recorded.postgres_ends(pool, settings.partition_count)
    for partition in lake:
        await positions.make_group(redis, partition, PROFILE)
        end = max(lake[partition], postgres[partition])
        done.raised += await positions.raise_last_id(redis, partition, end)
    with tempfile.TemporaryDirectory(prefix="rebuild-", dir=settings.data_dir) as scratch:
        async with _leases(redis, settings.partition_count, clock) as leases:
            up_to = await _counted(redis, settings.partition_count)
            tail = Path(scratch, "tail.parquet")
            figures = await asyncio.to_thread(recorded.lake_figures, files, settings.partition_count)
            with pq.ParquetWriter(tail, TAIL) as out:
                async for rows in recorded.only_in_postgres(pool, figures):
                    out.write_table(rows)
                async for rows in recorded.newer_in_stream(redis, lake, up_to):
                    out.write_table(rows)
            work = _Work(settings, redis, clock, leases, done, tell)
            await apart(work, lambda: work.run(files, tail, up_to))
            with redis_errors():
                await trending.replace(redis, done.weeks)
            await leases.confirm()
    return done


async def _counted(redis: Redis, partition_count: int) -> Ends:
    """Up to where the sink has counted, of each partition; it reads on from there, whoever else was at it."""
    ends = {}
    for partition in range(partition_count):
        ends[partition] = await positions.acknowledged(redis, partition, PROFILE)
        await positions.set_back(redis, partition, PROFILE, ends[partition])
    return ends


class _Leases:
    """All partitions' leases of the profile sink, kept until the work is done."""

    def __init__(self, leases: Sequence[Lease]) -> None:
        self._leases = leases

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(limits.LEASE_WAIT_S)
            await self.confirm()

    async def confirm(self) -> None:
        """Raises StateError when another process may have written meanwhile."""
        for lease in self._leases:
            with contextlib.suppress(DependencyError):  # as long as the lease lasts
                await lease.hold()
        self.check()

    def check(self) -> None:
        for lease in self._leases:
            lease.check()


@contextlib.asynccontextmanager
async def _leases(redis: Redis, partition_count: int, clock: Clock) -> AsyncIterator[_Leases]:
    """Takes them from the consumers, who wait until they are given back, and renews them."""
    holder = f"rebuild-{make_name()}"
    leases = [Lease(redis, partition, PROFILE, holder, clock) for partition in range(partition_count)]
    for lease in leases:
        await lease.seize()
    held = _Leases(leases)
    keeping = asyncio.create_task(held.keep())
    try:
        yield held
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        for lease in leases:
            await lease.release()


class _Work:
    """The reading and folding, in a thread; what is written goes through the event loop, which also renews the leases."""

    def __init__(
        self, settings: Settings, redis: Redis, clock: Clock, leases: _Leases, done: Rebuilt, tell: Tell
    ) -> None:
        self._redis, self._leases, self._done, self._tell = redis, leases, done, tell
        self._ttl_s = settings.profile_ttl_days * DAY_S
        self._now_s = clock.time_s()
        self._loop = asyncio.get_running_loop()
        self._reading: list[duckdb.DuckDBPyConnection] = []
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True
        for connection in self._reading:
            with contextlib.suppress(duckdb.Error):  # it has just been closed
                connection.interrupt()

    def run(self, files: LakeFiles, tail: Path, up_to: Ends) -> None:
        def work(connection: duckdb.DuckDBPyConnection, names: Mapping[str, Sequence[str]]) -> None:
            self._reading.append(connection)
            recorded.gather(connection, names[EVENTS], tail, up_to, tail.parent)
            self._done.profiles = self._done.events = self._done.left_out = self._done.marks = 0
            self._done.weeks.clear()
            self._put_marks(connection)
            for histories in recorded.histories(connection):
                self._put_profiles(histories)

        read(files, work)

    def _put_profiles(self, histories: Histories) -> None:
        folded = fold(histories, DEDUPLICATION_WINDOW_S - limits.WINDOW_SLACK_S, self._ttl_s)
        values = self._alive(histories.subjects, folded)
        for start in range(0, len(values), limits.WRITE_COUNT):
            self._leases.check()
            self._wait(store.put(self._redis, values[start : start + limits.WRITE_COUNT]))
        kept = folded.is_kept
        self._add_weeks(
            trending.sums(histories.times[kept], histories.signals[kept], histories.keys[kept], self._now_s)
        )
        self._done.profiles += len(values)
        self._done.events += int(np.count_nonzero(kept))
        self._done.left_out += int(np.count_nonzero(~kept))
        self._tell(self._done)

    def _alive(self, subjects: Sequence[str], folded: Folded) -> list[tuple[str, bytes, int]]:
        """Profiles with how long they still have to live, as if they had been written when their newest event came."""
        left_s = self._ttl_s - (self._now_s - (folded.applied >> SEQUENCE_BITS) / 1000)
        ttls = np.ceil(left_s).astype(np.int64).tolist()
        rows = zip(subjects, folded.values, ttls, strict=True)
        return [(subject, value, ttl_s) for subject, value, ttl_s in rows if ttl_s > 0]

    def _add_weeks(self, weeks: Mapping[int, Mapping[int, float]]) -> None:
        for start_s, week in weeks.items():
            own = self._done.weeks.setdefault(start_s, {})
            for item, weight in week.items():
                own[item] = own.get(item, 0.0) + weight

    def _put_marks(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Ids of the last DEDUPLICATION_WINDOW_S: whoever sends an event again meanwhile, sends a duplicate."""
        since = int((self._now_s - DEDUPLICATION_WINDOW_S) * 1000) << SEQUENCE_BITS
        query = f"SELECT partition, event_id, stream_offset FROM recorded WHERE stream_offset > {since}"  # noqa: S608
        found = connection.execute(query)
        while rows := found.fetchmany(limits.TAIL_ROWS):
            by_partition: dict[int, list[tuple[str, int, int]]] = {}
            for partition, event_id, offset in rows:
                ttl_s = max(1, int((offset - since >> SEQUENCE_BITS) / 1000))
                by_partition.setdefault(partition, []).append((event_id, offset, ttl_s))
            for partition, marks in by_partition.items():
                self._wait(put_marks(self._redis, partition, marks))
            self._done.marks += len(rows)

    def _wait(self, writing: Coroutine[None, None, None]) -> None:
        if self._is_stopped:
            writing.close()
            raise InterruptedError
        with redis_errors():
            asyncio.run_coroutine_threadsafe(writing, self._loop).result()
