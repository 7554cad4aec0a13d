"""Events into the lake: Parquet by date and hour of acceptance, each file whole or not there.

Exactly once: a file's name says which entries of its partition it holds, entries come in order, and what the newest file
holds already is skipped. So a batch that was written but not acknowledged changes nothing when it comes again.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from ingest import limits
from ingest.events import StreamEvent, context_json, micros_of
from ingest.lake_files import LakeFiles, file_name, last_offset
from profiles.offsets import SEQUENCE_BITS
from profiles.signals import signal_of

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema([
    pa.field("event_id", pa.string(), nullable=False), pa.field("subject", pa.string(), nullable=False),
    pa.field("user_id", pa.string(), nullable=False), pa.field("session_id", pa.string(), nullable=False),
    pa.field("item_key", pa.int32(), nullable=False), pa.field("item_id", pa.string(), nullable=False),
    pa.field("type", pa.int8(), nullable=False), pa.field("custom_type", pa.string(), nullable=False),
    pa.field("signal", pa.int8(), nullable=False), pa.field("value", pa.float64()),
    pa.field("event_time", _TIME, nullable=False), pa.field("accept_time", _TIME, nullable=False),
    pa.field("attribution_token", pa.string(), nullable=False), pa.field("surface", pa.string(), nullable=False),
    pa.field("context", pa.string()), pa.field("stream_offset", pa.int64(), nullable=False),
])  # fmt: skip
HOUR_MS = 3_600_000


class LakeSink:
    """One partition's events. `check` raises when the partition may have gone to another process."""

    batch_events_max = limits.LAKE_BATCH_EVENTS_MAX
    fill_s = limits.LAKE_FILL_S_MAX

    def __init__(self, files: LakeFiles, partition: int, check: Callable[[], None]) -> None:
        self._files = files
        self._partition = partition
        self._check = check
        self._committed: int | None = None  # not learnt yet

    def restart(self) -> None:
        """Another process may have written meanwhile: what the lake has is learnt anew."""
        self._committed = None

    async def write(self, events: Sequence[StreamEvent]) -> None:
        """Writes events that the lake does not have, one file an hour. Raises OverloadError, DependencyError."""
        await asyncio.to_thread(self._write, events)

    def _write(self, events: Sequence[StreamEvent]) -> None:
        if self._committed is None:
            self._committed = last_offset(self._files, self._partition)
        committed = self._committed
        for hour_ms, run in _by_hour([event for event in events if event.offset > committed]):
            path = f"{folder_of(hour_ms)}/{file_name(self._partition, run[0].offset, run[-1].offset)}"
            data = to_parquet(run)
            self._check()
            self._files.put(path, data)
            self._committed = run[-1].offset


def folder_of(time_ms: int) -> str:
    """The folder of events that were accepted at `time_ms`."""
    time = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"kind=events/date={time:%Y-%m-%d}/hour={time:%H}"


def to_parquet(events: Sequence[StreamEvent]) -> bytes:
    """A file of SCHEMA."""
    columns = zip(*map(_row, events), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), out, compression="zstd")
    return out.getvalue()


def _by_hour(events: Sequence[StreamEvent]) -> Iterator[tuple[int, list[StreamEvent]]]:
    """Runs of the same hour, in order. The hour is the entry's: it never goes back, as the clock of a host may."""
    hours = groupby(events, key=lambda event: (event.offset >> SEQUENCE_BITS) // HOUR_MS)
    return ((hour * HOUR_MS, list(run)) for hour, run in hours)


def _row(event: StreamEvent) -> tuple[object, ...]:
    accepted, sent = event.accepted, event.accepted.event
    return (
        sent.id, event.subject, sent.user_id, sent.session_id, accepted.item_key, sent.item_id, sent.type,
        sent.custom_type, int(signal_of(sent.type, sent.value)), sent.value if sent.HasField("value") else None,
        micros_of(sent.event_time), micros_of(accepted.accept_time), sent.attribution_token, sent.surface,
        context_json(sent), event.offset,
    )  # fmt: skip
