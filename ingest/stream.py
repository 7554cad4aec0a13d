"""The event stream in Redis: the only file that knows its keys.

A partition has one stream; all its keys share a slot of a cluster, so that a script can touch them together. An entry has
the field `e`, an AcceptedEvent, and, when it is a replayed dead letter, `s`, the one sink that wants it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ingest import limits
from ingest.replicas import script_on
from profiles.offsets import entry_id_of, pack_offset
from runtime.errors import OverloadError, StateError
from runtime.redis_client import BLOCK_WAIT_S_MAX, redis_errors

SINKS = ("profile", "postgres", "lake")
MEMBERS_KEY = "reco:consumers"  # a sorted set: names of consumer processes, and when each was last heard (ms)

# The id of the next entry of KEYS[1]: the store's choice, or a new millisecond when this one has many. A clock that went
# back leaves the store counting within one millisecond for as long.
NEXT_ID = f"""
local id = '*'
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then
  local ms, sequence = string.match(last[1], '(%d+)-(%d+)')
  if tonumber(sequence) > {limits.SEQUENCE_TURN} then id = string.format('%.0f-0', tonumber(ms) + 1) end
end
"""

# KEYS: stream, a mark for each event. ARGV: most entries, window in s, payloads. Answers place and 1 (new) or 0 for each
# event, or nothing at all when the stream is full. One call is one step: a mark never stands without its entry.
_APPEND = f"""
if redis.call('XLEN', KEYS[1]) + #KEYS - 1 > tonumber(ARGV[1]) then return {{}} end
{NEXT_ID}
local answer = {{}}
for i = 2, #KEYS do
  local place = redis.call('GET', KEYS[i])
  local new = 0
  if not place then
    place = redis.call('XADD', KEYS[1], id, 'e', ARGV[i + 1])
    redis.call('SET', KEYS[i], place, 'EX', ARGV[2])
    id = '*'
    new = 1
  end
  answer[#answer + 1] = place
  answer[#answer + 1] = new
end
return answer
"""

# KEYS: stream, lease. ARGV: holder ("": there is no other), sink, where to start, most entries. Answers entries; or, when
# there is nothing new, the id behind which to wait; or 0 when another process has the lease. Asking and taking are one step:
# a process that was paused and lost its lease could otherwise take entries that its successor then overtakes.
_TAKE = """
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[2], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], ARGV[3])
if found then return found[1][2] end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return last and last[1] or '0-0'
"""

# KEYS: stream, dead letters. ARGV: sink, entry, reason, payload, most letters. An entry is set aside once.
_SET_ASIDE = """
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[5]) then return -1 end
local mine = redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if mine == 1 then
  redis.call('XADD', KEYS[2], '*', 'sink', ARGV[1], 'entry', ARGV[2], 'reason', ARGV[3], 'e', ARGV[4])
end
return mine
"""


@dataclass(frozen=True)
class Place:
    """Where an event stands: a packed offset, and whether it came there just now."""

    offset: int
    is_new: bool


@dataclass(frozen=True)
class Entry:
    """One entry as a sink reads it. `data` is what was appended, `sink` the only one that wants it, or ""."""

    offset: int
    data: bytes
    sink: str = ""


@dataclass(frozen=True)
class Refused:
    """An entry that can't be written, and why."""

    entry: Entry
    reason: str


def stream_key(partition: int) -> str:
    """The key of a partition's stream."""
    return f"reco:{{events:{partition}}}"


def entry_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry from the store's id and fields; deleted ones come without."""
    return Entry(pack_offset(entry_id), fields.get(b"e", b""), fields.get(b"s", b"").decode(errors="replace"))


def dead_letters_key(partition: int) -> str:
    """The key of a partition's dead letters."""
    return f"{stream_key(partition)}:dead"


def lease_key(partition: int, sink: str) -> str:
    """The key that says which process writes a partition into a sink."""
    return f"{stream_key(partition)}:lease:{sink}"


class StreamWriter:
    """Appends events, each id once. With `replica_count` an answer means that so many replicas have them."""

    def __init__(
        self,
        redis: Redis,
        entries_max: int = limits.STREAM_ENTRIES_MAX,
        replica_count: int = 0,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        """`check_room` raises OverloadError where nothing more may come in (ingest/memory.py)."""
        self._check_room = check_room
        self._append = script_on(redis, _APPEND, replica_count)
        self._entries_max = entries_max

    async def append(self, partition: int, events: Sequence[tuple[str, bytes]]) -> list[Place]:
        """Appends (event id, payload) pairs in order, all in one step or none. Raises OverloadError, DependencyError."""
        assert len(events) <= limits.APPEND_ENTRIES_MAX
        self._check_room()
        key = stream_key(partition)
        keys = [key, *(f"{key}:id:{event_id}" for event_id, _ in events)]
        payloads = [payload for _, payload in events]
        with redis_errors():
            answer = await self._append(keys, [self._entries_max, limits.DEDUPLICATION_WINDOW_S, *payloads])
        if not answer:
            raise _full(partition, self._entries_max)
        pairs = zip(answer[::2], answer[1::2], strict=True)
        return [Place(pack_offset(place), bool(new)) for place, new in pairs]


async def put_marks(redis: Redis, partition: int, marks: Sequence[tuple[str, int, int]]) -> None:
    """Remembers events that were appended before: id, packed offset, and for how many seconds. What is remembered stays.

    Raises DependencyError.
    """
    key = stream_key(partition)
    with redis_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            for event_id, offset, ttl_s in marks:
                pipeline.set(f"{key}:id:{event_id}", entry_id_of(offset), ex=ttl_s, nx=True)
            await pipeline.execute()


class StreamReader:
    """One partition as one sink reads it: strictly in order, what was not acknowledged first.

    The client must not retry by itself: an answer that was lost on the way leaves entries pending, and reading on would
    overtake them. After any error call `rewind`.
    """

    def __init__(
        self,
        redis: Redis,
        partition: int,
        sink: str,
        holder: str = "",
        begin: Callable[[], Awaitable[object]] | None = None,
        replica_count: int = 0,
    ) -> None:
        """`holder` is the lease's (ingest/lease.py); "" for a reader that is alone. `begin` is awaited before reading begins anew.

        With `replica_count`, what is read is on so many replicas: a failover takes nothing back that a sink has written, and
        what is sent again has not been there twice.
        """
        self.partition = partition
        self._begin = begin
        self._has_begun = False
        self.sink = sink
        self._redis = redis
        self._key = stream_key(partition)
        self._holder = holder
        self._take = script_on(redis, _TAKE, replica_count)
        self._set_aside = redis.register_script(_SET_ASIDE)
        self._rewound = True

    def rewind(self) -> None:
        """Makes the next read begin with what was read and not acknowledged."""
        self._rewound = True
        self._has_begun = False

    async def read(self, count_max: int, fill_s: float = 0.0) -> list[Entry]:
        """Up to `count_max` entries: waits BLOCK_WAIT_S_MAX for the first, then `fill_s` for more.

        Raises DependencyError; StateError when another process has the lease, and then nothing was read.
        """
        with redis_errors():
            if self._rewound:
                await self._create_group()
                if self._begin and not self._has_begun:
                    await self._begin()
                    self._has_begun = True
                pending = await self._pending(count_max)
                if pending:
                    return pending
                self._rewound = False
            batch = await self._new(count_max, BLOCK_WAIT_S_MAX)
            if batch and fill_s:
                await self._fill(batch, count_max, fill_s)
            return batch

    async def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Says that the sink has these for good."""
        if entries:
            ids = [entry_id_of(entry.offset) for entry in entries]
            with redis_errors():
                await self._redis.xack(self._key, self.sink, *ids)

    async def dead_letter(self, refused: Sequence[Refused]) -> None:
        """Sets entries aside and acknowledges them, each in one step. Raises OverloadError when there are too many."""
        keys = [self._key, dead_letters_key(self.partition)]
        for each in refused:
            place = entry_id_of(each.entry.offset)
            reason = each.reason.encode(errors="backslashreplace")
            payload: list[str | bytes] = [self.sink, place, reason, each.entry.data]
            with redis_errors():
                if await self._set_aside(keys, [*payload, limits.DEAD_LETTERS_MAX]) == -1:
                    raise _too_many_dead_letters(self.partition)

    async def _pending(self, count_max: int) -> list[Entry]:
        """What was read and not acknowledged, from the oldest."""
        pending: list[Entry] = []
        while len(pending) < count_max:
            start = entry_id_of(pending[-1].offset) if pending else "0"
            found, _ = await self._fetch(start, count_max - len(pending))
            if not found:
                break
            pending += found
        return pending

    async def _fill(self, batch: list[Entry], count_max: int, fill_s: float) -> None:
        deadline_s = time.monotonic() + fill_s
        while len(batch) < count_max and (left_s := deadline_s - time.monotonic()) > 0.001:
            batch += await self._new(count_max - len(batch), min(left_s, BLOCK_WAIT_S_MAX))

    async def _new(self, count_max: int, wait_s: float) -> list[Entry]:
        """What nobody has read yet; waits when there is nothing. Waiting takes nothing, so it needs no lease."""
        found, end = await self._fetch(">", count_max)
        if not found and await self._redis.xread({self._key: end}, count=1, block=max(1, int(wait_s * 1000))):
            found, _ = await self._fetch(">", count_max)
        return found

    async def _fetch(self, start: str, count_max: int) -> tuple[list[Entry], str]:
        """Entries, or the id behind which new ones will come."""
        arguments: list[str | int] = [self._holder, self.sink, start, min(count_max, limits.TAKE_ENTRIES_MAX)]
        answer = await self._take([self._key, lease_key(self.partition, self.sink)], arguments)
        if answer == 0:
            raise lease_lost(self.partition, self.sink)
        return ([], answer.decode()) if isinstance(answer, bytes) else (_entries(answer), "")

    async def _create_group(self) -> None:
        try:
            await self._redis.xgroup_create(self._key, self.sink, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def _entries(rows: Any) -> list[Entry]:
    """Entries from a script's answer: ids, each with a flat list of names and values. Deleted ones come without."""
    return [
        entry_of(place, dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}) for place, flat in rows
    ]


def lease_lost(partition: int, sink: str) -> StateError:
    """The error for a process that goes on after its lease of (partition, sink) may have gone to another."""
    message = f"the lease {lease_key(partition, sink)} ran out or went to another process; what was read comes again"
    return StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)


def _full(partition: int, entries_max: int) -> OverloadError:
    delay_ms = limits.STREAM_RETRY_DELAY_MS
    metadata = {
        "partition": str(partition), "length_max": str(entries_max), "retry_delay_ms": str(delay_ms),
    }  # fmt: skip
    message = f"the stream is full because a sink is behind; retry after {delay_ms} ms"
    return OverloadError(error_reason_pb2.ERROR_REASON_STREAM_FULL, message, metadata)


def _too_many_dead_letters(partition: int) -> OverloadError:
    message = f"partition {partition} has {limits.DEAD_LETTERS_MAX} dead letters that the lake does not take; see the consumer's log"
    return OverloadError(error_reason_pb2.ERROR_REASON_STREAM_FULL, message, {"partition": str(partition)})
