"""Where profiles live in Redis: the only file that knows their keys.

Writes are compare-and-set on the applied offset, so that a writer that was overtaken (a paused process whose lease went
to another) can't put an old profile over a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import structlog
from numpy.typing import NDArray
from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis

from profiles.codec import OFFSET_BYTES, ProfileDamagedError, applied_offset_of, merge
from profiles.limits import SWAP_TRIES_MAX
from runtime.errors import DependencyError
from runtime.redis_many import get_all, run_scripts

# KEYS[1] profile. ARGV: the eight bytes of the offset that was read ("" for no profile), value, TTL in seconds.
_SWAP = f"""
local now = redis.call('GETRANGE', KEYS[1], {OFFSET_BYTES.start}, {OFFSET_BYTES.stop - 1})
if now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""

# From a subject and its applied offset: the packed events (n,) that come after, and the newest's offset. None: nothing new.
Select = Callable[[str, int], tuple[NDArray[np.uint64], int] | None]


def profile_key(subject: str) -> str:
    """The key of a profile. The braces put all keys of a subject into one slot of a cluster."""
    return f"reco:{{{subject}}}:p"


async def read_profile(redis: Redis, subject: str) -> bytes | None:
    """The stored profile of a subject, for profiles.codec.decode. None: nothing is known."""
    return cast(bytes | None, await redis.get(profile_key(subject)))


async def read_profiles(redis: Redis, subjects: Sequence[str]) -> list[bytes | None]:
    """The stored profiles of many subjects, n > 0, in one round trip."""
    return await get_all(redis, [profile_key(subject) for subject in subjects])


async def put(redis: Redis, values: Sequence[tuple[str, bytes, int]]) -> None:
    """Sets profiles, whatever is there: subject, value and TTL in seconds. For who alone writes them now."""
    async with redis.pipeline(transaction=False) as pipeline:
        for subject, value, ttl_s in values:
            pipeline.set(profile_key(subject), value, ex=ttl_s)
        await pipeline.execute()


async def apply(redis: Redis, subjects: Sequence[str], select: Select, ttl_s: int) -> None:
    """Merges events into the profiles of distinct `subjects`.

    `select(subject, applied_offset)` gives the packed events (n,) that come after the offset, and the newest's offset; or
    None when all are counted in. Raises DependencyError when other writers keep getting in between.
    """
    waiting = list(subjects)
    for _ in range(SWAP_TRIES_MAX):
        waiting = await _swap(redis, waiting, select, ttl_s)
        if not waiting:
            return
    message = f"{len(waiting)} profiles changed {SWAP_TRIES_MAX} times while they were written: two writers?"
    raise DependencyError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, {"store": "redis"})


async def _swap(redis: Redis, subjects: list[str], select: Select, ttl_s: int) -> list[str]:
    """One try; returns the subjects whose profile has changed meanwhile."""
    calls: dict[str, tuple[list[str], list[bytes | int]]] = {}
    for subject, old in zip(subjects, await read_profiles(redis, subjects), strict=True):
        chosen = select(subject, applied_offset_of(old))
        if chosen is not None:
            value = _merge_or_begin_anew(subject, old, *chosen)
            calls[subject] = ([profile_key(subject)], [(old or b"")[OFFSET_BYTES], value, ttl_s])
    swapped = await run_scripts(redis, _SWAP, list(calls.values())) if calls else []
    return [subject for subject, done in zip(calls, swapped, strict=True) if not done]


def _merge_or_begin_anew(subject: str, old: bytes | None, events: NDArray[np.uint64], offset: int) -> bytes:
    """A damaged profile must not stop its partition: it is begun anew, and the log says so."""
    try:
        return merge(old, events, offset)
    except ProfileDamagedError as error:
        structlog.get_logger().error("profile begun anew", subject=subject, error=error.message)
        return merge(None, events, offset)
