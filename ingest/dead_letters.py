"""What a sink could not read or write: kept in Redis, then in the lake; listed, and played again to the sink that refused it.

A letter is in one place at a time: among a partition's letters in Redis; in the batch that is under way to the lake; or in a
file of the lake (ingest/dead_letter_files.py). So a flood of them never fills Redis, and their partition goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from redis.asyncio import Redis

from ingest import dead_letter_files as letter_files
from ingest import limits
from ingest.dead_letter_files import DeadLetter
from ingest.lake.files import LakeFiles, ThereAlreadyError
from ingest.stream import NEXT_ID, SINKS, dead_letters_key, stream_key
from profiles.offsets import pack_offset
from runtime import metrics
from runtime.redis_client import redis_errors

# KEYS: stream, letters. ARGV: letter, sink, payload. A letter goes back once.
_REPLAY = f"""
if redis.call('XDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
{NEXT_ID}
redis.call('XADD', KEYS[1], id, 'e', ARGV[3], 's', ARGV[2])
return 1
"""

# KEYS: stream, names of the letters of a file that went back. ARGV as above. A file never changes, so Redis remembers which.
_REPLAY_FILED = f"""
if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 0 end
{NEXT_ID}
redis.call('XADD', KEYS[1], id, 'e', ARGV[3], 's', ARGV[2])
return 1
"""

# KEYS: letters, the batch under way. ARGV: how many letters stay, how many make a batch. Answers the batch: the one that
# another has begun, or the oldest letters; nothing while there are few. A batch stays the same until it is in the lake.
_TAKE = """
local function batch() return redis.call('XRANGE', KEYS[2], '-', '+') end
if redis.call('EXISTS', KEYS[2]) == 1 then return batch() end
if redis.call('XLEN', KEYS[1]) < ARGV[1] + ARGV[2] then return {} end
for _, row in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2])) do
  redis.call('XADD', KEYS[2], row[1], unpack(row[2]))
  redis.call('XDEL', KEYS[1], row[1])
end
return batch()
"""

# KEYS: the batch under way. ARGV: its first letter. Ends that batch, not one that was begun since.
_END = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return first and first[1] == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
"""


async def list_dead_letters(
    redis: Redis, files: LakeFiles, partition_count: int, count: int = 100
) -> list[DeadLetter]:
    """The oldest `count` dead letters over all partitions. Raises DependencyError, OverloadError."""
    letters: list[DeadLetter] = []
    for partition in range(partition_count):
        oldest: list[DeadLetter] = []
        for path in await asyncio.to_thread(letter_files.paths_of, files, partition):
            if len(oldest) < count:
                oldest += await _left_of(redis, files, partition, path)
        for key in (_leaving_key(partition), dead_letters_key(partition)):
            if len(oldest) < count:
                oldest += await _read(redis, partition, count - len(oldest), key)
        letters += oldest
    return sorted(letters, key=lambda letter: letter.place)[:count]


async def replay_dead_letters(
    redis: Redis, files: LakeFiles, partition_count: int, ids: Collection[str] | None = None
) -> int:
    """Appends dead letters (None: all that are there now) to their partitions again, for the sink that refused them.

    Returns how many. Raises DependencyError, OverloadError.
    """
    return sum(
        [await _replay_partition(redis, files, partition, ids) for partition in range(partition_count)]
    )


async def _replay_partition(
    redis: Redis, files: LakeFiles, partition: int, ids: Collection[str] | None
) -> int:
    """Again until nothing is found: upkeep may move letters from Redis to the lake meanwhile."""
    until = await _newest(redis, files, partition)  # what is refused once more, behind it, stays

    def is_meant(letter: DeadLetter) -> bool:
        is_chosen = ids is None or letter.id in ids
        return (
            is_chosen and letter.place <= until and letter.sink in SINKS
        )  # an entry for no sink is one for all

    replayed, found = 0, 1
    while found:
        await spill(redis, files, partition)
        found = await _replay_kept(redis, partition, is_meant)
        for path in await asyncio.to_thread(letter_files.paths_of, files, partition):
            found += await _replay_filed(redis, files, partition, path, is_meant)
        replayed += found
    return replayed


async def _newest(redis: Redis, files: LakeFiles, partition: int) -> int:
    """The place of a partition's newest letter; 0 when there is none."""
    for key in (dead_letters_key(partition), _leaving_key(partition)):
        with redis_errors():
            rows: Any = await redis.xrevrange(key, count=1)
        if rows:
            return pack_offset(rows[0][0])
    paths = await asyncio.to_thread(letter_files.paths_of, files, partition)
    return letter_files.newest_of(paths[-1]) if paths else 0


async def _replay_kept(redis: Redis, partition: int, is_meant: Callable[[DeadLetter], bool]) -> int:
    replay = redis.register_script(_REPLAY)
    keys = [stream_key(partition), dead_letters_key(partition)]
    letters = [letter for letter in await _read(redis, partition, None) if is_meant(letter)]
    return await _each(replay, keys, letters)


async def _replay_filed(
    redis: Redis, files: LakeFiles, partition: int, path: str, is_meant: Callable[[DeadLetter], bool]
) -> int:
    """Of one file; when all of its letters went back it is done with."""
    letters = await _left_of(redis, files, partition, path)
    meant = [letter for letter in letters if is_meant(letter)]
    keys = [stream_key(partition), _replayed_key(partition, path)]
    count = await _each(redis.register_script(_REPLAY_FILED), keys, meant)
    if len(meant) == len(letters):
        await asyncio.to_thread(letter_files.finish, files, path)
        with redis_errors():  # not at once: another may be about to play the same file
            await redis.expire(keys[1], limits.REPLAYED_KEPT_S)
    return count


async def _each(
    replay: Callable[..., Awaitable[Any]], keys: Sequence[str], letters: Sequence[DeadLetter]
) -> int:
    count = 0
    for letter in letters:
        with redis_errors():
            count += int(await replay(keys, [letter.id.partition(":")[2], letter.sink, letter.data]))
    return count


async def spill(redis: Redis, files: LakeFiles, partition: int) -> None:
    """Moves the oldest letters to the lake as long as there are many. Any number of processes may, at once.

    Raises DependencyError, OverloadError: then they stay in Redis, and the next one goes on with the same batch.
    """
    take, end = redis.register_script(_TAKE), redis.register_script(_END)
    keys = [dead_letters_key(partition), _leaving_key(partition)]
    while True:
        with redis_errors():
            rows = await take(keys, [limits.DEAD_LETTERS_KEPT, limits.DEAD_LETTERS_FILED])
        if not rows:
            return
        batch = [_letter(partition, place, dict(zip(*[iter(flat)] * 2, strict=True))) for place, flat in rows]
        await asyncio.to_thread(_file, files, partition, batch)
        with redis_errors():
            await end(keys[1:], [rows[0][0]])


def _file(files: LakeFiles, partition: int, batch: Sequence[DeadLetter]) -> None:
    path = letter_files.path_of(partition, batch)
    try:
        files.create(path, letter_files.to_parquet(batch))
    except ThereAlreadyError:  # the same letters: another process was quicker, or was killed behind this
        return
    metrics.DEAD_LETTERS_FILED_TOTAL.inc(len(batch))


async def _left_of(redis: Redis, files: LakeFiles, partition: int, path: str) -> list[DeadLetter]:
    """A file's letters that have not gone back."""
    letters = await asyncio.to_thread(letter_files.read, files, partition, path)
    with redis_errors():
        gone: Any = await redis.smembers(_replayed_key(partition, path))
    return [letter for letter in letters if letter.id.partition(":")[2].encode() not in gone]


async def _read(redis: Redis, partition: int, count: int | None, key: str | None = None) -> list[DeadLetter]:
    with redis_errors():
        rows: Any = await redis.xrange(key or dead_letters_key(partition), count=count)
    return [_letter(partition, letter_id, fields) for letter_id, fields in rows]


def _letter(partition: int, letter_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    """What others have put there is a letter too: one that nobody can replay must not keep the rest from the lake."""
    sink, reason = (fields.get(name, b"").decode(errors="replace") for name in (b"sink", b"reason"))
    try:
        offset = pack_offset(fields.get(b"entry", b""))
    except ValueError:
        offset = 0
    return DeadLetter(
        f"{partition}:{letter_id.decode()}", partition, sink, reason, offset, fields.get(b"e", b"")
    )


def _leaving_key(partition: int) -> str:
    return f"{dead_letters_key(partition)}:leaving"


def _replayed_key(partition: int, path: str) -> str:
    return f"{dead_letters_key(partition)}:replayed:{path.rpartition('/')[2]}"
