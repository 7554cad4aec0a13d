"""What the lake needs beside its sink: fewer and larger files, changes of items and users, manifests, and an end to what is old.

A partition is compacted by who holds its lake lease, and all the rest are chores (ingest/chores.py). What fails is told and tried
again; the sinks go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import structlog

from ingest import limits
from ingest.chores import Chore
from ingest.lake.changes import PARTITION, ChangesExport
from ingest.lake.compact import Compacted, compact
from ingest.lake.expire import expire, remove_halves, remove_superseded
from ingest.lake.files import LakeFiles
from ingest.lake.manifest import write_manifest
from ingest.lake.names import EVENTS, ITEMS, USERS
from ingest.lease import Lease
from ingest.stream import lease_lost
from runtime import metrics
from runtime.clock import Clock
from runtime.errors import RecoError, StateError
from runtime.postgres import Pool


@dataclass(frozen=True)
class LakeUpkeep:
    """Of one process. `leases`: of each partition's lake; `lease`: of what one process does for all."""

    files: LakeFiles
    pool: Pool
    leases: Mapping[int, Lease]
    lease: Lease
    keep_days: int
    clock: Clock
    stop: asyncio.Event

    def chores(self) -> list[Chore]:
        """What one process does for all, in the order in which it is first done."""
        check = self._check(self.lease)
        items, users = (ChangesExport(self.files, kind, check) for kind in (ITEMS, USERS))
        return [
            Chore("lake items", limits.LAKE_EXPORT_EVERY_S, lambda: items.export(self.pool)),
            Chore("lake users", limits.LAKE_EXPORT_EVERY_S, lambda: users.export(self.pool)),
            Chore("lake changes", limits.LAKE_LOOK_EVERY_S, self.compact_changes),
            Chore("lake manifest", limits.LAKE_MANIFEST_EVERY_S, self.write_manifest),
        ]

    async def keep_compact(self) -> None:
        """Compacts what this process holds, now and then, until `stop`."""
        while not self.stop.is_set():
            wait_s = limits.LAKE_LOOK_EVERY_S
            try:
                if not await self.compact_events():
                    wait_s = limits.LEASE_RENEW_S  # nothing is ours yet
            except Exception as error:
                wait_s = limits.CHORE_RETRY_S
                self._tell(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), wait_s)

    async def compact_events(self) -> bool:
        """One partition after another: each takes memory. Whether this process holds any."""
        held = [partition for partition, lease in sorted(self.leases.items()) if _is_held(lease)]
        for partition in held:
            await self._compact(self.leases[partition], EVENTS, partition)
        return bool(held)

    async def compact_changes(self) -> None:
        """Those of items and users."""
        for kind in (ITEMS, USERS):
            await self._compact(self.lease, kind, PARTITION)

    async def write_manifest(self) -> None:
        """Writes down what there is; then lets go of what is too old."""
        now_s = self.clock.time_s()
        manifest = await asyncio.to_thread(write_manifest, self.files, now_s)
        self.lease.check()  # as of here files go for good
        removed = await asyncio.to_thread(expire, self.files, self.keep_days, now_s)
        removed += await asyncio.to_thread(remove_superseded, self.files, now_s)
        removed += await asyncio.to_thread(remove_halves, self.files, now_s)
        metrics.LAKE_FILES_TOTAL.labels("removed").inc(removed)
        structlog.get_logger().info("manifest of the lake", number=manifest.number, removed_files=removed)

    async def _compact(self, lease: Lease, kind: str, partition: int) -> None:
        check = self._check(lease)
        now_s = self.clock.time_s()
        done: Compacted = await asyncio.to_thread(compact, self.files, partition, now_s, check, kind)
        if done != Compacted():
            pa.default_memory_pool().release_unused()  # it would keep what the largest hour took
            metrics.LAKE_FILES_TOTAL.labels("compacted").inc(done.files_before)
            structlog.get_logger().info(
                "compacted the lake", kind=kind, partition=partition, files_before=done.files_before,
                files_after=done.files_after, doubles=done.doubles,
            )  # fmt: skip
        if done.damaged:
            structlog.get_logger().error(
                "files of the lake can't be read, so they stay small; see `reco lake verify`",
                first=done.damaged,
            )

    def _check(self, lease: Lease) -> Callable[[], None]:
        def check() -> None:
            lease.check()
            if self.stop.is_set():  # a thread can't be cancelled: it ends at its next file
                raise lease_lost(0, "upkeep")

        return check

    def _tell(self, error: Exception) -> None:
        logger = structlog.get_logger()
        if self.stop.is_set():
            return
        if isinstance(error, RecoError):
            logger.warning("the lake was not compacted; it is tried again", error=error.message)
        else:
            logger.exception("unexpected error", work="compacting the lake")


def _is_held(lease: Lease) -> bool:
    try:
        lease.check()
    except StateError:
        return False
    return True
