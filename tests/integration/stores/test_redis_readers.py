"""The reader of the hot path on a cluster whose slots move and whose nodes die, and behind sentinels that choose anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from bench.valkeys import SLOTS, Valkey, Watched, cluster, cluster_url, has_all, until, watched
from ingest.stream import StreamWriter, stream_key
from runtime.errors import DependencyError
from runtime.redis_client import connect
from runtime.redis_connection import Subscription
from runtime.redis_readers import make_reader
from runtime.redis_sentinel import sentinel_of
from runtime.redis_url import parse

READ_S_MAX = 5.0
KEYS = [f"k{n}" for n in range(30)]


def later() -> float:
    return asyncio.get_running_loop().time() + READ_S_MAX


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Valkey]]:
    """Three primaries with a replica each."""
    with cluster(tmp_path, replica_count=1, appendonly="yes") as found:
        yield found


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path, appendonly="yes") as found:
        yield found


async def fill(url: str, primaries: list[Valkey]) -> None:
    """Returns when the replicas have it, too."""
    async with connect(url) as redis:
        for key in KEYS:
            await redis.set(key, key)
    await asyncio.to_thread(until, lambda: all(map(has_all, primaries)))


async def move(nodes: list[Valkey], slot: int) -> None:
    """A slot without keys goes to the next node."""
    owner = slot * 3 // SLOTS
    target = nodes[(owner + 1) % 3]
    with target.client() as client:
        name = client.cluster("MYID")
    for node in (target, nodes[owner], *nodes):
        with node.client() as client:
            if "master" in str(client.info("replication")["role"]):
                client.cluster("SETSLOT", slot, "NODE", name)


@pytest.fixture
async def reading(nodes: list[Valkey]) -> str:
    url = cluster_url(nodes)
    await fill(url, nodes[:3])
    return url


async def test_keys_of_many_nodes_come_in_their_order(reading: str) -> None:
    reader = make_reader(reading)
    assert await reader.get_all([*KEYS, "nothing", *KEYS[:3]], later()) == [
        *(key.encode() for key in KEYS), None, *(key.encode() for key in KEYS[:3])
    ]  # fmt: skip
    assert await reader.get_all([], later()) == []
    await reader.aclose()


async def test_a_slot_that_moved_is_read_where_it_is_now(reading: str, nodes: list[Valkey]) -> None:
    reader = make_reader(reading)
    await reader.get_all(KEYS, later())
    await move(nodes, key_slot(b"moved"))
    async with connect(reading, retries_max=0) as redis:
        await redis.set("moved", "1")  # the client for everything else follows, too
        [place] = await StreamWriter(redis).append(0, [("e1", b"data")])

    assert place.is_new
    assert await reader.get("moved", later()) == b"1"
    assert await reader.get("k1", later()) == b"k1"
    await reader.aclose()


async def test_nodes_that_send_one_to_each_other_for_ever_fail_in_time(
    reading: str, nodes: list[Valkey]
) -> None:
    slot = key_slot(stream_key(0).encode())
    owner = slot * 3 // SLOTS
    with nodes[(owner + 1) % 3].client() as client:
        name = client.cluster("MYID")
    with nodes[owner].client() as client:
        client.cluster("SETSLOT", slot, "NODE", name)  # the other one knows nothing of it
    reader = make_reader(reading)
    async with asyncio.timeout(READ_S_MAX), connect(reading, retries_max=0) as redis:
        with pytest.raises(RedisError):
            await reader.get(stream_key(0), later())
        for replica_count in (0, 1):
            with pytest.raises(DependencyError):
                await StreamWriter(redis, replica_count=replica_count).append(0, [("e1", b"data")])
    await reader.aclose()


async def test_an_append_waits_for_the_replica_of_its_node(reading: str, nodes: list[Valkey]) -> None:
    async with connect(reading, retries_max=0) as redis:
        writer = StreamWriter(redis, replica_count=1)
        await writer.append(0, [("e0", b"data")])
        before = key_slot(stream_key(1).encode())
        await move(nodes, before)
        places = await writer.append(1, [("e1", b"data")])

    assert [place.is_new for place in places] == [True]


async def test_a_node_that_dies_is_read_from_its_replica(reading: str, nodes: list[Valkey]) -> None:
    told = asyncio.Event()
    subscribed = asyncio.Event()
    reader = make_reader(reading, Subscription("news", lambda _: told.set(), subscribed.set))
    keeping = asyncio.create_task(reader.keep_connected())
    await asyncio.wait_for(subscribed.wait(), READ_S_MAX)
    assert await reader.get_all(KEYS, later()) == [key.encode() for key in KEYS]
    nodes[0].kill()

    values: list[bytes | None] = []
    async with asyncio.timeout(60):
        while not values:
            try:
                values = await reader.get_all(KEYS, later())
            except (RedisError, OSError):
                await asyncio.sleep(0.05)
    async with connect(reading) as redis, asyncio.timeout(30):
        while not told.is_set():
            await redis.publish("news", "x")
            await asyncio.sleep(0.05)

    assert values == [key.encode() for key in KEYS]
    keeping.cancel()
    await reader.aclose()


async def test_a_cluster_that_is_away_fails_in_time() -> None:
    reader = make_reader("redis+cluster://127.0.0.1:1")
    with pytest.raises((RedisError, OSError)):
        await reader.get("k", later())
    await reader.aclose()


async def test_behind_sentinels_the_new_primary_is_read(behind: Watched) -> None:
    await fill(behind.url, [behind.primary])
    reader = make_reader(behind.url)
    assert await reader.get("k1", later()) == b"k1"
    behind.primary.kill()
    [replica] = behind.replicas
    await asyncio.to_thread(until, lambda: _is_primary(replica))

    values: list[bytes | None] = []
    async with asyncio.timeout(30):
        while not values:
            try:
                values = await reader.get_all(KEYS[:2], later())
            except (RedisError, OSError):
                await asyncio.sleep(0.05)

    assert values == [b"k0", b"k1"]
    await reader.aclose()


def _is_primary(server: Valkey) -> bool:
    with server.client() as client:
        return bool(client.info("replication")["role"] == "master")


async def test_many_who_look_for_the_primary_at_once_lose_no_sentinel(behind: Watched) -> None:
    behind.sentinels[0].kill()  # so that another one answers, and moves to the front
    sentinels = sentinel_of(parse(behind.url))
    try:
        before = set(map(id, sentinels.sentinels))
        found = await asyncio.gather(*(sentinels.discover_master("shop") for _ in range(20)))
        assert {port for _, port in found} == {behind.primary.port}
        assert set(map(id, sentinels.sentinels)) == before
    finally:
        await sentinels.aclose()
