"""What a sink could not read or write: listed, and played again to the sink that refused it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from ingest.stream import NEXT_ID, dead_letters_key, stream_key
from profiles.offsets import pack_offset
from runtime.redis_client import redis_errors

# KEYS: stream, dead letters. ARGV: letter, sink, payload. A letter goes back once.
_REPLAY = f"""
if redis.call('XDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
{NEXT_ID}
redis.call('XADD', KEYS[1], id, 'e', ARGV[3], 's', ARGV[2])
return 1
"""


@dataclass(frozen=True)
class DeadLetter:
    """An entry that was set aside."""

    id: str  # "<partition>:<ms>-<seq>"; its ms is when it was set aside
    partition: int
    sink: str  # who refused it
    reason: str
    offset: int  # where it stood first
    data: bytes  # as it was appended


async def list_dead_letters(redis: Redis, partition_count: int, count: int = 100) -> list[DeadLetter]:
    """The oldest `count` dead letters over all partitions. Raises DependencyError."""
    letters: list[DeadLetter] = []
    for partition in range(partition_count):
        letters += await _read(redis, partition, count)
    return sorted(letters, key=lambda letter: pack_offset(letter.id.partition(":")[2]))[:count]


async def replay_dead_letters(redis: Redis, partition_count: int, ids: Collection[str] | None = None) -> int:
    """Appends dead letters (None: all) to their partitions again, for the sink that refused them. Returns how many."""
    replay = redis.register_script(_REPLAY)
    replayed = 0
    for partition in range(partition_count):
        for letter in await _read(redis, partition, None):
            if ids is None or letter.id in ids:
                keys = [stream_key(partition), dead_letters_key(partition)]
                with redis_errors():
                    replayed += int(
                        await replay(keys, [letter.id.partition(":")[2], letter.sink, letter.data])
                    )
    return replayed


async def _read(redis: Redis, partition: int, count: int | None) -> list[DeadLetter]:
    with redis_errors():
        rows: Any = await redis.xrange(dead_letters_key(partition), count=count)
    return [
        DeadLetter(
            f"{partition}:{letter_id.decode()}", partition, fields[b"sink"].decode(), fields[b"reason"].decode(),
            pack_offset(fields[b"entry"]), fields[b"e"],
        )
        for letter_id, fields in rows
    ]  # fmt: skip
