"""Profiles in the real store: compare-and-set, memory, trending."""

from __future__ import annotations

import numpy as np
import pytest
from redis.asyncio import Redis

from profiles import store, trending
from profiles.codec import decode, merge, pack_event
from profiles.limits import PROFILE_BYTES_MAX, TRENDING_ITEMS_MAX, VALUE_BYTES_MAX
from runtime.errors import DependencyError

TTL_S = 1000


def full_profile() -> bytes:
    rng = np.random.default_rng(5)
    events = [pack_event(1_700_000_000 + i, 2, int(rng.integers(1, 200_000))) for i in range(2000)]
    return merge(None, np.array(events, np.uint64), 1790000000000 << 16)


def one_event(offset: int) -> store.Select:
    event = np.array([pack_event(offset, 1, offset)], np.uint64)
    return lambda _subject, applied: (event, offset) if offset > applied else None


@pytest.mark.parametrize("id_chars", [36, 96])
async def test_a_full_profile_costs_at_most_a_kibibyte(redis: Redis, id_chars: int) -> None:
    key = store.profile_key("u:" + "x" * id_chars)
    value = full_profile()
    assert len(value) >= VALUE_BYTES_MAX - 8

    await redis.set(key, value, ex=TTL_S)

    used = await redis.memory_usage(key)
    assert used is not None
    assert used <= PROFILE_BYTES_MAX


async def test_apply_merges_and_sets_the_time_to_live(redis: Redis) -> None:
    await store.apply(redis, ["u:a", "u:b"], one_event(5), TTL_S)
    await store.apply(redis, ["u:a"], one_event(6), TTL_S)

    assert decode(await store.read_profile(redis, "u:a")).keys.tolist() == [5, 6]
    assert decode(await store.read_profile(redis, "u:b")).keys.tolist() == [5]
    assert 0 < await redis.ttl(store.profile_key("u:a")) <= TTL_S


async def test_apply_of_an_old_offset_changes_nothing(redis: Redis) -> None:
    await store.apply(redis, ["u:a"], one_event(6), TTL_S)
    before = await store.read_profile(redis, "u:a")

    await store.apply(redis, ["u:a"], one_event(5), TTL_S)

    assert await store.read_profile(redis, "u:a") == before


class BusyRedis:
    """A store in which another writer gets in after each of our first `times` reads."""

    def __init__(self, redis: Redis, times: int) -> None:
        self._redis = redis
        self._times = times

    def __getattr__(self, name: str) -> object:
        return getattr(self._redis, name)

    async def mget(self, keys: list[str]) -> object:
        values = await self._redis.mget(keys)
        if self._times:
            self._times -= 1
            other = merge(values[0], np.array([pack_event(1, 1, 1)], np.uint64), 100 - self._times)
            await self._redis.set(keys[0], other)
        return values


async def test_apply_when_another_writer_gets_in_takes_its_profile_into_account(redis: Redis) -> None:
    await store.apply(BusyRedis(redis, 2), ["u:a"], one_event(200), TTL_S)  # type: ignore[arg-type]  # a fake

    profile = decode(await store.read_profile(redis, "u:a"))
    assert profile.keys.tolist() == [1, 200]
    assert profile.event_count == 3


async def test_apply_when_others_always_get_in_gives_up_with_an_error(redis: Redis) -> None:
    with pytest.raises(DependencyError, match="two writers"):
        await store.apply(BusyRedis(redis, 99), ["u:a"], one_event(200), TTL_S)  # type: ignore[arg-type]  # a fake


async def test_apply_over_a_damaged_profile_begins_anew(redis: Redis) -> None:
    await redis.set(store.profile_key("u:a"), b"\x09 not a profile, and long enough")

    await store.apply(redis, ["u:a"], one_event(7), TTL_S)

    assert decode(await store.read_profile(redis, "u:a")).keys.tolist() == [7]


async def test_trending_fades_over_the_turn_of_the_week(redis: Redis) -> None:
    monday_s = trending.week_start_s(1_795_392_000)
    now_s = monday_s + 3600.0
    events = [(monday_s - 3600, 1, 1)] * 4 + [(monday_s, 1, 2)] * 3 + [(monday_s - 4 * 86_400, 1, 3)] * 9

    await trending.add(redis, trending.counts(events, now_s))

    keys, scores = await trending.read_trending(redis, now_s, 2)
    assert keys.tolist() == [1, 2]
    np.testing.assert_allclose(scores, [4 * np.exp(-2 / 24), 3 * np.exp(-1 / 24)], rtol=1e-5)


async def test_trending_keeps_a_bounded_number_of_items(redis: Redis) -> None:
    now_s = 1_795_392_000 + 10
    await trending.add(
        redis, trending.counts([(now_s, 1, key) for key in range(1, TRENDING_ITEMS_MAX + 500)], now_s)
    )

    key = trending.trending_key(trending.week_start_s(now_s))
    assert await redis.zcard(key) == TRENDING_ITEMS_MAX
    assert await redis.ttl(key) > 0


async def test_trending_of_nothing_is_empty(redis: Redis) -> None:
    keys, scores = await trending.read_trending(redis, 1_795_392_000.0, 10)

    assert (keys.shape, scores.shape, keys.dtype, scores.dtype) == ((0,), (0,), np.int32, np.float32)
