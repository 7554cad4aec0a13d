"""Moves the events of before there were partitions to their days, a bounded number at a time, while others read and write.

They lie in the partition of 1970-01-01, so that readers see each of them all the time. Their day is that of their acceptance,
which is the day of their entry in the stream but for a few at midnight.
"""

from __future__ import annotations

from datetime import date

from ingest.partitions import EVENTS, FIRST_DAY, TRIES_MAX, changing, make_partition
from runtime.postgres import Pool, postgres_errors
from runtime.postgres_locks import patiently, short_locks

MOVE_ROWS_MAX = 5_000  # of one transaction, some 0.3 s
BATCHES_MAX = 200  # of one turn of upkeep

_IS_THERE = "SELECT to_regclass('events_before') IS NOT NULL"
_DAY = f"greatest((accept_time AT TIME ZONE 'UTC')::date, date '{FIRST_DAY}')"
_COLUMNS = """event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, value, event_time, accept_time,
  attribution_token, surface, context, stream_partition, stream_offset"""
_DAYS = f"""
SELECT DISTINCT {_DAY} FROM (SELECT accept_time FROM events_before ORDER BY accept_time LIMIT %s) oldest
"""  # noqa: S608 -- constants of ours
# An event that was delivered again since is there with its place already, perhaps on the day after.
_MOVE = f"""
WITH oldest AS (
  SELECT event_id FROM events_before ORDER BY accept_time LIMIT %s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM events_before b USING oldest WHERE b.event_id = oldest.event_id RETURNING b.*, {_DAY} AS new_day
), moved AS (
  INSERT INTO events ({_COLUMNS}, day)
  SELECT {_COLUMNS}, new_day FROM gone
  WHERE NOT EXISTS (
    SELECT FROM events e WHERE e.event_id = gone.event_id AND e.day BETWEEN gone.new_day AND gone.new_day + 1
  )
  ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
"""  # noqa: S608 -- constants of ours


async def move_before(pool: Pool, batches_max: int = BATCHES_MAX) -> int:
    """Moves up to `batches_max` batches, and drops the partition when it is empty; returns how many rows left it."""
    moved = 0
    for _ in range(batches_max):
        if not await _is_there(pool):
            break
        days = await _days(pool)
        if not days:
            await _drop(pool)
            break
        for day in days:
            await make_partition(pool, EVENTS, day)
        moved += await _move(pool)
    return moved


async def _is_there(pool: Pool) -> bool:
    with postgres_errors():
        async with pool.connection() as connection:
            row = await (await connection.execute(_IS_THERE)).fetchone()
            return bool(row and row[0])


async def _days(pool: Pool) -> list[date]:
    with postgres_errors():
        async with pool.connection() as connection:
            return [row[0] for row in await (await connection.execute(_DAYS, (MOVE_ROWS_MAX,))).fetchall()]


async def _move(pool: Pool) -> int:
    with postgres_errors():
        async with pool.connection() as connection:
            row = await (await connection.execute(_MOVE, (MOVE_ROWS_MAX,))).fetchone()
            return int(row[0]) if row else 0


async def _drop(pool: Pool) -> None:
    """Drops the partition if it is empty still: a process of an older version may have written meanwhile."""
    async with changing(pool) as connection:

        async def drop() -> None:
            async with short_locks(connection):
                await connection.execute("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
                await connection.execute("LOCK TABLE events_before IN ACCESS EXCLUSIVE MODE")
                if not (await connection.execute("SELECT FROM events_before LIMIT 1")).rowcount:
                    await connection.execute("ALTER TABLE events DETACH PARTITION events_before")
                    await connection.execute("DROP TABLE events_before")

        if await _is_there(pool):
            await patiently("events_before", drop, TRIES_MAX)
