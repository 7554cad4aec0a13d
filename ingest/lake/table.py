"""The table of events as the lake holds it: its columns, its order, its bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.events import StreamEvent, context_json, micros_of
from profiles.signals import signal_of

TIME = pa.timestamp("us", tz="UTC")
# Columns may be added, at the end and nullable, and never change or go: readers unite files by the columns' names.
SCHEMA_VERSION = 1
SCHEMA = pa.schema([
    pa.field("event_id", pa.string(), nullable=False), pa.field("subject", pa.string(), nullable=False),
    pa.field("user_id", pa.string(), nullable=False), pa.field("session_id", pa.string(), nullable=False),
    pa.field("item_key", pa.int32(), nullable=False), pa.field("item_id", pa.string(), nullable=False),
    pa.field("type", pa.int8(), nullable=False), pa.field("custom_type", pa.string(), nullable=False),
    pa.field("signal", pa.int8(), nullable=False), pa.field("value", pa.float64()),
    pa.field("event_time", TIME, nullable=False), pa.field("accept_time", TIME, nullable=False),
    pa.field("attribution_token", pa.string(), nullable=False), pa.field("surface", pa.string(), nullable=False),
    pa.field("context", pa.string()), pa.field("stream_offset", pa.int64(), nullable=False),
])  # fmt: skip
# By whom and when: one user's log is read from a few row groups.
ORDER = (("subject", "ascending"), ("event_time", "ascending"), ("stream_offset", "ascending"))
ROW_GROUP_ROWS = 100_000
COMPRESSION_LEVEL = 3  # of zstd; 9 took four times as long for 4 % less
_VERSION, _LAST = b"reco.schema_version", b"reco.last_offset"


@dataclass(frozen=True)
class Footer:
    """What a file says of itself."""

    rows: int
    last_offset: int


def to_table(events: Sequence[StreamEvent]) -> pa.Table:
    """Events (n,) as SCHEMA, in their own order."""
    columns = zip(*map(_row, events), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def to_parquet(table: pa.Table, last_offset: int) -> bytes:
    """A file of the table's rows, sorted by ORDER, each page with a checksum."""
    told = {_VERSION: str(SCHEMA_VERSION).encode(), _LAST: str(last_offset).encode()}
    out = io.BytesIO()
    pq.write_table(
        table.sort_by(list(ORDER)).replace_schema_metadata(told), out, compression="zstd",
        compression_level=COMPRESSION_LEVEL, row_group_size=ROW_GROUP_ROWS, write_page_checksum=True,
        sorting_columns=pq.SortingColumn.from_ordering(table.schema, list(ORDER)),
    )  # fmt: skip
    return out.getvalue()


def footer_of(data: bytes) -> Footer:
    """What the file says of itself; of one that doesn't say, the largest offset of its rows."""
    metadata = pq.read_metadata(io.BytesIO(data))
    told = (metadata.metadata or {}).get(_LAST)
    if told is not None:
        return Footer(metadata.num_rows, int(told))
    offsets = pq.read_table(io.BytesIO(data), columns=["stream_offset"])["stream_offset"].to_pylist()
    return Footer(metadata.num_rows, max(offsets, default=0))


def read_table(data: bytes) -> pa.Table:
    """The rows of a file, whatever columns it has. Raises pa.ArrowException, OSError for a damaged one."""
    return pq.read_table(io.BytesIO(data), page_checksum_verification=True)


def _row(event: StreamEvent) -> tuple[object, ...]:
    accepted, sent = event.accepted, event.accepted.event
    return (
        sent.id, event.subject, sent.user_id, sent.session_id, accepted.item_key, sent.item_id, sent.type,
        sent.custom_type, int(signal_of(sent.type, sent.value)), sent.value if sent.HasField("value") else None,
        micros_of(sent.event_time), micros_of(accepted.accept_time), sent.attribution_token, sent.surface,
        context_json(sent), event.offset,
    )  # fmt: skip
