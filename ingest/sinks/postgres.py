"""Events into PostgreSQL: the record of truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest import limits
from ingest.events import StreamEvent, context_json, micros_of
from runtime.postgres import Pool, postgres_errors

# Times travel as microseconds: exact, and quicker than datetimes.
_INSERT = """
INSERT INTO events (
  event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value, event_time, accept_time,
  attribution_token, surface, context
)
SELECT
  event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value,
  timestamptz 'epoch' + event_micros * interval '1 microsecond',
  timestamptz 'epoch' + accept_micros * interval '1 microsecond',
  attribution_token, surface, context::jsonb
FROM unnest(
  %b::text[], %b::text[], %b::text[], %b::text[], %b::int4[], %b::text[], %b::int2[], %b::text[], %b::float8[],
  %b::int8[], %b::int8[], %b::text[], %b::text[], %b::text[]
) AS e (
  event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value,
  event_micros, accept_micros, attribution_token, surface, context
)
ON CONFLICT DO NOTHING
"""


class PostgresSink:
    """Idempotent by the primary key."""

    batch_events_max = limits.POSTGRES_BATCH_EVENTS_MAX
    fill_s = 0.0

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def restart(self) -> None:
        """Remembers nothing, so there is nothing to forget."""

    async def write(self, events: Sequence[StreamEvent]) -> None:
        """Inserts events in one statement. Raises DependencyError, OverloadError; psycopg.DataError for an event at fault."""
        columns = [list(column) for column in zip(*map(_row, events), strict=True)]
        with postgres_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_INSERT, columns)


def _row(event: StreamEvent) -> tuple[Any, ...]:
    accepted, sent = event.accepted, event.accepted.event
    return (
        sent.id, event.subject, sent.user_id, sent.session_id, accepted.item_key, sent.item_id, sent.type,
        sent.custom_type, sent.value if sent.HasField("value") else None, micros_of(sent.event_time),
        micros_of(accepted.accept_time), sent.attribution_token, sent.surface, context_json(sent),
    )  # fmt: skip
