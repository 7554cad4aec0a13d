"""The whole path on a cluster and on a primary under sentinels, and a failover in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import grpc
import pyarrow.dataset as ds
import pytest
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from bench.valkeys import Valkey, Watched, cluster, cluster_url, started, until, watched
from ingest.dead_letters import list_dead_letters, replay_dead_letters
from ingest.durability import verify
from ingest.lake.files import LocalLake
from ingest.memory import Memory
from ingest.stream import stream_key
from ingest.tail import last_events
from profiles.codec import decode
from profiles.item_news import CHANNEL
from profiles.store import profile_key
from profiles.trending import read_trending
from runtime.postgres import Pool
from runtime.redis_connection import Subscription
from runtime.redis_readers import make_reader
from tests.integration.ingest.harness import PARTITIONS, Ingest, Load, running
from tests.integration.ingest.samples import EVENT_TIME_S, event, items

READ_WAIT_S_MAX = 10.0
EVENTS = 40


# As docs/redis.md has it: that is all that the account may do.
ACCOUNT = (
    "reco on >secret ~reco:* &reco:items +@read +@write +@connection +@pubsub +@scripting -@dangerous +time +wait +info "
    "+config|get +cluster|slots +command"
)


def admitted(url: str, servers: Sequence[Valkey]) -> str:
    """The URL for an account that may do what we say we need."""
    for server in servers:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", *ACCOUNT.split())
    return url.replace("://", "://reco:secret@")


def test_the_account_of_the_tests_is_that_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()

    assert f"ACL SETUSER {ACCOUNT}" in page.replace("\\\n  ", "")


@pytest.fixture
def one_server(tmp_path: Path) -> Iterator[str]:
    server = Valkey(tmp_path, appendonly="yes")
    with started(server):
        yield admitted(server.url, [server])


@pytest.fixture
def three_nodes(tmp_path: Path) -> Iterator[str]:
    with cluster(tmp_path, appendonly="yes") as nodes:
        yield admitted(cluster_url(nodes), nodes)


@pytest.fixture
def under_sentinels(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path, appendonly="yes") as found:
        yield found


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    found = request.getfixturevalue(request.param)
    if isinstance(found, Watched):
        return admitted(found.url, [found.primary, *found.replicas])
    return str(found)


@pytest.fixture
async def whole(url: str, pool: Pool, postgres: str, open_folder: Path) -> AsyncIterator[Ingest]:
    async with running(url, postgres, open_folder) as ingest:
        yield ingest


async def rows_of(ingest: Ingest) -> list[str]:
    async with ingest.pool.connection() as connection:
        rows = await (await connection.execute("SELECT event_id FROM events ORDER BY 1")).fetchall()
    return [row[0] for row in rows]


def lake_of(ingest: Ingest) -> list[str]:
    folder = ingest.settings.data_dir / "lake" / "kind=events"
    return sorted(
        ds.dataset(folder, partitioning="hive").to_table(columns=["event_id"])["event_id"].to_pylist()
    )


@pytest.mark.parametrize("url", ["one_server", "three_nodes", "under_sentinels"], indirect=True)
async def test_events_reach_every_sink_and_serving(whole: Ingest, url: str) -> None:
    heard, subscribed = asyncio.Event(), asyncio.Event()
    subscription = Subscription(CHANNEL, lambda _: heard.set(), subscribed.set)
    reader = make_reader(url, subscription)
    keeping = asyncio.create_task(reader.keep_connected())
    await asyncio.wait_for(subscribed.wait(), READ_WAIT_S_MAX)
    await whole.stub.UpsertItems(items())
    await asyncio.wait_for(heard.wait(), READ_WAIT_S_MAX)  # serving hears of the items
    sent = [event() for _ in range(EVENTS)]
    answer = await whole.stub.WriteEvents(WriteEventsRequest(events=sent))
    again = await whole.stub.WriteEvents(WriteEventsRequest(events=sent))
    await whole.caught_up()

    assert (answer.accepted_count, again.duplicate_count) == (EVENTS, EVENTS)
    assert await rows_of(whole) == lake_of(whole) == sorted(each.id for each in sent)
    users = sorted({each.user_id for each in sent})
    until_s = asyncio.get_running_loop().time() + READ_WAIT_S_MAX
    profiles = [
        decode(data) for data in await reader.get_all([profile_key(f"u:{user}") for user in users], until_s)
    ]
    assert sum(len(profile.keys) for profile in profiles) == EVENTS
    assert await reader.get(profile_key("u:nobody"), until_s) is None
    keeping.cancel()
    await reader.aclose()
    await others(whole.redis, whole)


async def others(redis: Redis, ingest: Ingest) -> None:
    """What else speaks to Redis."""
    with capture_logs() as logs:
        await verify(redis, ingest.settings.model_copy(update={"durability": "everysec"}))
    assert [log["event"] for log in logs if "can't be told" in log["event"]] == []
    await Memory(redis).look()
    keys, _ = await read_trending(redis, EVENT_TIME_S, 5)
    newest, _ = await last_events(redis, PARTITIONS, 5)
    await redis.xadd(stream_key(0), {"e": b"torn"})
    await ingest.caught_up()
    files = LocalLake(ingest.settings.data_dir / "lake")
    letters = await list_dead_letters(redis, files, PARTITIONS)

    assert len(newest) == 5
    assert {letter.sink for letter in letters} == {"profile", "postgres", "lake"}
    assert await replay_dead_letters(redis, files, PARTITIONS) == 3
    assert len(keys) <= 5


async def test_a_failover_in_the_middle_loses_nothing_that_replicas_acknowledged(
    under_sentinels: Watched, pool: Pool, postgres: str, open_folder: Path
) -> None:
    how = {"durability": "replicas", "durability_replicas": 1}
    async with running(under_sentinels.url, postgres, open_folder, **how) as ingest:
        await ingest.stub.UpsertItems(items())
        load, stop = Load(ingest), asyncio.Event()
        task = asyncio.create_task(load.run(stop))
        await load.more(200)
        under_sentinels.primary.kill()
        await load.refused()
        await asyncio.to_thread(until, lambda: is_primary(under_sentinels.replicas[0]))
        under_sentinels.primary.start()  # the sentinels make it a replica of the one that took over
        await load.more(200)
        stop.set()
        await task
        await ingest.caught_up()

        assert {error.code() for error in load.refusals} == {grpc.StatusCode.UNAVAILABLE}
        assert await rows_of(ingest) == sorted(load.acknowledged)
        assert lake_of(ingest) == sorted(load.acknowledged)


def is_primary(server: Valkey) -> bool:
    with server.client() as client:
        return bool(client.info("replication")["role"] == "master")
