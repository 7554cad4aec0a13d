"""The tables as the lake holds them: their columns, their order, their bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.events import StreamEvent, context_json, micros_of
from ingest.lake.files import LakeFiles
from ingest.lake.names import EVENTS, ITEMS, USERS
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
_CHANGE = [
    pa.field("number", pa.int64(), nullable=False), pa.field("change_time", TIME, nullable=False),
    pa.field("id", pa.string(), nullable=False),
]  # fmt: skip
SCHEMAS = {
    EVENTS: SCHEMA,
    # JSON; null where it was deleted.
    ITEMS: pa.schema([*_CHANGE, pa.field("key", pa.int32(), nullable=False), pa.field("item", pa.string())]),
    USERS: pa.schema([*_CHANGE, pa.field("account", pa.string())]),
}
# By whom and when: one user's log, or one item's history, is read from a few row groups.
ORDERS = {
    EVENTS: (("subject", "ascending"), ("event_time", "ascending"), ("stream_offset", "ascending")),
    ITEMS: (("id", "ascending"), ("number", "ascending")),
    USERS: (("id", "ascending"), ("number", "ascending")),
}
ROW_GROUP_ROWS = 100_000
COMPRESSION_LEVEL = 3  # of zstd; 9 took four times as long for 4 % less
FOOTER_BYTES = 64 * 1024  # of a file of a few row groups, with room; a longer one is read whole
_VERSION, _LAST, _SOURCE = b"reco.schema_version", b"reco.last_offset", b"reco.source"


@dataclass(frozen=True)
class Footer:
    """What a file says of itself. `source`: which database its changes are from; empty for events."""

    rows: int
    last_offset: int
    source: str = ""


def to_table(events: Sequence[StreamEvent]) -> pa.Table:
    """Events (n,) as SCHEMA, in their own order."""
    columns = zip(*map(_row, events), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def to_parquet(table: pa.Table, last_offset: int, kind: str = EVENTS, source: str = "") -> bytes:
    """A file of the table's rows, sorted, each page with a checksum."""
    told = {
        _VERSION: str(SCHEMA_VERSION).encode(),
        _LAST: str(last_offset).encode(),
        _SOURCE: source.encode(),
    }
    order = list(ORDERS[kind])
    out = io.BytesIO()
    pq.write_table(
        table.sort_by(order).replace_schema_metadata(told), out, compression="zstd",
        compression_level=COMPRESSION_LEVEL, row_group_size=ROW_GROUP_ROWS, write_page_checksum=True,
        sorting_columns=pq.SortingColumn.from_ordering(table.schema, order),
    )  # fmt: skip
    return out.getvalue()


def read_footer(files: LakeFiles, path: str) -> Footer:
    """What the file says of itself, by reading its end alone. Raises FileNotFoundError; pa.ArrowException: damaged."""
    end = files.read_end(path, FOOTER_BYTES)
    length = int.from_bytes(end[-8:-4], "little") + 8  # before the end, by the format's definition
    if length > len(end):
        return footer_of(files.read(path))
    metadata = pq.read_metadata(io.BytesIO(end))
    return _told(metadata) or footer_of(files.read(path))


def footer_of(data: bytes) -> Footer:
    """What the file says of itself; of one that doesn't say, the largest offset of its rows."""
    metadata = pq.read_metadata(io.BytesIO(data))
    if told := _told(metadata):
        return told
    offsets = pq.read_table(io.BytesIO(data), columns=["stream_offset"])["stream_offset"]
    return Footer(metadata.num_rows, pc.max(offsets).as_py() or 0)


def _told(metadata: pq.FileMetaData) -> Footer | None:
    told = metadata.metadata or {}
    if _LAST not in told:
        return None
    return Footer(metadata.num_rows, int(told[_LAST]), told.get(_SOURCE, b"").decode())


def read_table(data: bytes) -> pa.Table:
    """The rows of a file, whatever columns it has. Raises pa.ArrowException, OSError for a damaged one."""
    return pq.read_table(io.BytesIO(data), page_checksum_verification=True)


def united(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows, columns united by name; null where a table has no such column."""
    table = pa.concat_tables(tables, promote_options="default")
    fields = [
        field.with_nullable(field.nullable or bool(table[field.name].null_count)) for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def without_doubles(table: pa.Table) -> pa.Table:
    """Events with the first of each event id alone, by their place in the stream."""
    by_id = pc.sort_indices(table, [("event_id", "ascending"), ("stream_offset", "ascending")])
    ids = table["event_id"].combine_chunks().take(by_id)
    if len(ids) < 2:
        return table
    is_other = pc.not_equal(ids[1:], ids[:-1])
    if pc.all(is_other).as_py():
        return table
    return table.take(by_id.filter(pa.concat_arrays([pa.array([True]), is_other])))


def _row(event: StreamEvent) -> tuple[object, ...]:
    accepted, sent = event.accepted, event.accepted.event
    return (
        sent.id, event.subject, sent.user_id, sent.session_id, accepted.item_key, sent.item_id, sent.type,
        sent.custom_type, int(signal_of(sent.type, sent.value)), sent.value if sent.HasField("value") else None,
        micros_of(sent.event_time), micros_of(accepted.accept_time), sent.attribution_token, sent.surface,
        context_json(sent), event.offset,
    )  # fmt: skip
