"""RECO_DURABILITY: what an acknowledgement waits for, and stores that promise less."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from bench.valkeys import Valkey, has_replica, started, until
from ingest.durability import lack, verify, wait_verified
from ingest.stream import StreamReader, StreamWriter, stream_key
from runtime.errors import DependencyError, StateError
from runtime.redis_client import connect
from runtime.settings import Settings
from runtime.stores import EmbeddedValkey

EVENT = ("e1", b"payload")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Valkey, Valkey]]:
    """A primary and its replica."""
    primary = Valkey(tmp_path)
    replica = Valkey(tmp_path, replicaof=f"127.0.0.1 {primary.port}")
    with started(primary, replica):
        until(lambda: has_replica(primary))
        yield primary, replica


@pytest.fixture
async def of_pair(pair: tuple[Valkey, Valkey]) -> AsyncIterator[Redis]:
    async with connect(pair[0].url) as client:
        yield client


async def test_what_was_acknowledged_by_replicas_is_on_the_replica(
    pair: tuple[Valkey, Valkey], of_pair: Redis
) -> None:
    [place] = await StreamWriter(of_pair, replica_count=1).append(0, [EVENT])

    assert place.is_new
    with pair[1].client() as replica:
        assert replica.xlen(stream_key(0)) == 1


async def test_a_replica_that_hangs_acknowledges_nothing_and_the_same_ids_do_once_it_goes_on(
    pair: tuple[Valkey, Valkey], of_pair: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.limits.WAIT_MS_MAX", 200)
    writer = StreamWriter(of_pair, replica_count=1)
    pair[1].send(signal.SIGSTOP)
    for _ in range(2):  # the second finds it there already, and is no more acknowledged than the first
        with pytest.raises(DependencyError, match="0 of 1 replicas") as raised:
            await writer.append(0, [EVENT])
        assert int(raised.value.metadata["retry_delay_ms"]) > 0
    pair[1].send(signal.SIGCONT)
    monkeypatch.setattr("ingest.limits.WAIT_MS_MAX", 4_000)

    [place] = await writer.append(0, [EVENT])

    assert not place.is_new
    with pair[1].client() as replica:
        assert replica.xlen(stream_key(0)) == 1


async def test_a_sink_reads_only_what_replicas_have(
    pair: tuple[Valkey, Valkey], of_pair: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.limits.WAIT_MS_MAX", 200)
    reader = StreamReader(of_pair, 0, "lake", replica_count=1)
    pair[1].send(signal.SIGSTOP)
    await StreamWriter(of_pair).append(0, [EVENT])
    with pytest.raises(DependencyError, match="0 of 1 replicas"):
        await reader.read(10)
    pair[1].send(signal.SIGCONT)
    monkeypatch.setattr("ingest.limits.WAIT_MS_MAX", 4_000)
    reader.rewind()

    assert [entry.data for entry in await reader.read(10)] == [EVENT[1]]


async def test_more_replicas_than_there_are_acknowledge_nothing(
    of_pair: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.limits.WAIT_MS_MAX", 1_000)

    with pytest.raises(DependencyError, match="1 of 2 replicas"):
        await StreamWriter(of_pair, replica_count=2).append(0, [EVENT])


async def test_a_script_that_the_store_forgot_is_sent_again(of_pair: Redis) -> None:
    writer = StreamWriter(of_pair, replica_count=1)
    await of_pair.script_flush()

    assert [place.is_new for place in await writer.append(0, [EVENT])] == [True]


@pytest.mark.parametrize(
    ("durability", "appendonly", "appendfsync", "words"),
    [
        ("always", "yes", "always", ""), ("always", "yes", "everysec", "appendfsync everysec"),
        ("always", "no", "always", "no append-only file"), ("everysec", "yes", "always", ""),
        ("everysec", "yes", "everysec", ""), ("everysec", "yes", "no", "appendfsync no"),
        ("replicas", "yes", "no", ""), ("replicas", "no", "no", "no append-only file"),
    ],
)  # fmt: skip
def test_a_store_that_promises_less_is_told(
    durability: str, appendonly: str, appendfsync: str, words: str
) -> None:
    found = lack(durability, {"appendonly": appendonly, "appendfsync": appendfsync})

    assert words in found
    assert bool(words) == bool(found)


def test_a_store_that_drops_keys_at_its_limit_is_told() -> None:
    found = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "1000"}

    assert "allkeys-lru" in lack("always", found | {"maxmemory-policy": "allkeys-lru"})
    assert not lack("always", found | {"maxmemory-policy": "noeviction"})
    assert not lack("always", found | {"maxmemory-policy": "allkeys-lru", "maxmemory": "0"})


@pytest.mark.parametrize("durability", ["always", "everysec"])
async def test_the_embedded_store_keeps_what_it_is_started_for(tmp_path: Path, durability: str) -> None:
    server = EmbeddedValkey(tmp_path, durability)
    try:
        async with connect(server.start()) as client:
            await verify(client, Settings(durability=durability))  # type: ignore[arg-type]  # one of those
            assert (await client.config_get("appendfsync"))["appendfsync"] == durability
    finally:
        server.stop()


async def test_less_than_was_chosen_does_not_start(of_pair: Redis) -> None:
    with pytest.raises(StateError, match="RECO_DURABILITY is always, but Redis has no append-only file"):
        await wait_verified(of_pair, Settings(), asyncio.Event())


async def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    server = Valkey(tmp_path, appendonly="yes", appendfsync="always")
    async with connect(server.url, retries_max=0) as client:
        waiting = asyncio.create_task(wait_verified(client, Settings(), asyncio.Event()))
        with pytest.raises(DependencyError):
            await verify(client, Settings())
        assert not waiting.done()
        with started(server):
            await asyncio.wait_for(waiting, 30)


async def test_a_store_that_may_not_be_asked_is_said_to_be_unknown(
    pair: tuple[Valkey, Valkey],
) -> None:
    with pair[0].client() as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-config")
    url = f"redis://app:secret@127.0.0.1:{pair[0].port}"
    async with connect(url) as client:
        with capture_logs() as logs:
            await verify(client, Settings())

    assert [(entry["log_level"], entry["durability"]) for entry in logs] == [("warning", "always")]
