"""Events into PostgreSQL: the record of truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from ingest import limits
from ingest.events import StreamEvent, context_json, micros_of
from profiles.offsets import SEQUENCE_BITS
from runtime.errors import store_unavailable
from runtime.postgres import Pool, postgres_errors

DAY_MS = 86_400_000
# One statement with a column an array: docs/decisions/0014 has the other ways. Times travel as microseconds: exact, and
# quicker than datetimes.
INSERT = f"""
INSERT INTO events (
  event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value, event_time, accept_time,
  attribution_token, surface, context, day, stream_partition, stream_offset
)
SELECT
  event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value,
  timestamptz 'epoch' + event_micros * interval '1 microsecond',
  timestamptz 'epoch' + accept_micros * interval '1 microsecond',
  attribution_token, surface, context::jsonb,
  date '1970-01-01' + ((stream_offset >> {SEQUENCE_BITS}) / {DAY_MS})::int4, %b::int2, stream_offset
FROM unnest(
  %b::text[], %b::text[], %b::text[], %b::text[], %b::int4[], %b::text[], %b::int2[], %b::text[], %b::float8[],
  %b::int8[], %b::int8[], %b::text[], %b::text[], %b::text[], %b::int8[]
) AS e (
  event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value,
  event_micros, accept_micros, attribution_token, surface, context, stream_offset
)
ON CONFLICT DO NOTHING
"""  # noqa: S608 -- constants of ours


class PostgresSink:
    """One partition's events. Idempotent by the primary key."""

    batch_events_max = limits.POSTGRES_BATCH_EVENTS_MAX
    fill_s = 0.0

    def __init__(self, pool: Pool, partition: int) -> None:
        self._pool = pool
        self._partition = partition

    def restart(self) -> None:
        """Remembers nothing, so there is nothing to forget."""

    async def write(self, events: Sequence[StreamEvent]) -> None:
        """Inserts events in one statement. Raises DependencyError, OverloadError; psycopg.DataError for an event at fault."""
        columns = [list(column) for column in zip(*map(row_of, events), strict=True)]
        try:
            with postgres_errors():
                async with self._pool.connection() as connection:
                    await connection.execute(INSERT, [self._partition, *columns])
        except psycopg.errors.CheckViolation as error:
            # Its day has got a partition since the statement chose the default one: no event is at fault.
            raise store_unavailable("postgres", error) from error


def row_of(event: StreamEvent) -> tuple[Any, ...]:
    """The values of INSERT's columns, in order."""
    accepted, sent = event.accepted, event.accepted.event
    return (
        sent.id, event.subject, sent.user_id, sent.session_id, accepted.item_key, sent.item_id, sent.type,
        sent.custom_type, sent.value if sent.HasField("value") else None, micros_of(sent.event_time),
        micros_of(accepted.accept_time), sent.attribution_token, sent.surface, context_json(sent), event.offset,
    )  # fmt: skip
