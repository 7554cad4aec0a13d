"""How far each sink is behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ingest.stream import SINKS, stream_key
from runtime.redis_client import redis_errors

# KEYS: stream. ARGV: sinks. Answers for each the entries that are pending, those not delivered (-1: the store can't tell), and
# the age in ms of the oldest of both by the store's clock; at the end the stream's length. A sink that has never come is
# behind by all there is.
_LAGS = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local groups = {}
local rows = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, row in ipairs(rows.err and {} or rows) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  groups[group.name] = group
end
local answer = {}
for _, sink in ipairs(ARGV) do
  local group = groups[sink] or {pending = 0, ['last-delivered-id'] = '0-0'}
  local oldest = group.pending > 0 and redis.call('XPENDING', KEYS[1], sink)[2]
  if not oldest then
    local after = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
    oldest = after and after[1]
  end
  local age_ms = oldest and math.max(0, now_ms - string.match(oldest, '%d+')) or 0
  answer[#answer + 1] = {group.pending, group.lag or -1, age_ms}
end
answer[#answer + 1] = redis.call('XLEN', KEYS[1])
return answer
"""


@dataclass(frozen=True)
class Lag:
    """How far a sink is behind on a partition."""

    entries: int  # not acknowledged
    age_s: float  # of the oldest of them; 0 when there is none


async def read_lags(redis: Redis, partition_count: int) -> dict[str, dict[int, Lag]]:
    """How far each sink is behind, by sink and partition. Raises DependencyError."""
    behind: dict[str, dict[int, Lag]] = {sink: {} for sink in SINKS}
    script = redis.register_script(_LAGS)
    for partition in range(partition_count):
        with redis_errors():
            *rows, length = await script([stream_key(partition)], SINKS)
        for sink, (pending, undelivered, age_ms) in zip(SINKS, rows, strict=True):
            # The store can't tell what was not delivered after entries were removed: then all may be.
            entries = pending + (length if undelivered < 0 else undelivered)
            behind[sink][partition] = Lag(entries, age_ms / 1000)
    return behind


async def lags(redis: Redis, partition_count: int) -> dict[str, dict[int, int]]:
    """Entries that each sink has not acknowledged, by sink and partition. Raises DependencyError."""
    behind = await read_lags(redis, partition_count)
    return {sink: {p: lag.entries for p, lag in by.items()} for sink, by in behind.items()}


async def groups_of(redis: Redis, partition: int) -> dict[str, Any]:
    """What the store tells of each consumer group of a partition, by sink."""
    with redis_errors():
        try:
            rows: Any = await redis.xinfo_groups(stream_key(partition))
        except ResponseError as error:
            if "no such key" in str(error):
                return {}
            raise
    return {row["name"].decode(): row for row in rows}
