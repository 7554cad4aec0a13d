"""Where a partition's stream stands while a store behind it is made anew.

What a sink had counted is found once, under its lease: all before the first entry that it has not acknowledged. The group is
set back to there, so that a process that was in the middle of a batch, and acknowledges it later, changes nothing: these
entries come again.
"""

from __future__ import annotations

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ingest import limits
from ingest.stream import stream_key
from profiles.limits import SEQUENCE_MAX
from profiles.offsets import SEQUENCE_BITS, entry_id_of, pack_offset
from runtime.redis_client import redis_errors

# KEYS: stream. ARGV: ms and sequence that the next entry's id shall lie above. Answers 1 when the last id was raised.
_RAISE = """
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last
for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
local ms, sequence = string.match(last, '(%d+)-(%d+)')
local wanted = tonumber(ARGV[1])
if tonumber(ms) > wanted or (tonumber(ms) == wanted and tonumber(sequence) >= tonumber(ARGV[2])) then return 0 end
redis.call('XSETID', KEYS[1], ARGV[1] .. '-' .. ARGV[2])
return 1
"""

# KEYS: stream. ARGV: group. Answers the id of the first entry that the group has not acknowledged, or "" and the last id.
_FIRST = """
local first
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
if pending[1] > 0 then first = pending[2] end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last
for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
if not first then
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
    if group.name == ARGV[1] then
      local after = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
      first = after and after[1]
    end
  end
end
return {first or '', last}
"""


async def raise_last_id(redis: Redis, partition: int, offset: int) -> bool:
    """Makes every entry to come lie above the packed `offset`; whether that was to do. Raises DependencyError."""
    if not offset:
        return False
    with redis_errors():
        arguments = [offset >> SEQUENCE_BITS, offset & SEQUENCE_MAX]
        if arguments[1] > limits.SEQUENCE_TURN:  # the rest of this millisecond may be too short for a batch
            arguments = [arguments[0] + 1, 0]
        return bool(await redis.register_script(_RAISE)([stream_key(partition)], arguments))


async def make_group(redis: Redis, partition: int, sink: str) -> None:
    """The stream and the sink's group, from the stream's first entry on, if there is none."""
    with redis_errors():
        try:
            await redis.xgroup_create(stream_key(partition), sink, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


async def acknowledged(redis: Redis, partition: int, sink: str) -> int:
    """The packed offset up to which the sink has acknowledged everything. Raises DependencyError."""
    with redis_errors():
        first, last = await redis.register_script(_FIRST)([stream_key(partition)], [sink])
    return pack_offset(first) - 1 if first else pack_offset(last)


async def set_back(redis: Redis, partition: int, sink: str, offset: int) -> None:
    """Lets the sink read again what comes after `offset`. Raises DependencyError."""
    with redis_errors():
        await redis.xgroup_setid(stream_key(partition), sink, entry_id_of(offset))
