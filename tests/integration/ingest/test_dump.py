"""`reco dump` and `reco restore`: from one system into an empty one and out again, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from psycopg import sql
from reco.ingest.v1.event_pb2 import EventContext
from reco.ingest.v1.ingest_service_pb2 import (
    DeleteItemsRequest,
    UpsertItemsRequest,
    UpsertUsersRequest,
    WriteEventsRequest,
)
from reco.ingest.v1.item_pb2 import Item
from reco.ingest.v1.user_pb2 import User

from ingest.dump.manifest import NAME, read
from ingest.dump.restore import restore
from ingest.dump.tables import NOT_DUMPED, TABLES
from ingest.dump.write import dump
from ingest.schema import MIGRATIONS
from runtime.errors import StateError
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.settings import Settings
from runtime.stores import EmbeddedPostgres
from tests.integration.ingest.harness import Ingest
from tests.integration.ingest.samples import event, items

REPOSITORY = Path(__file__).parents[3]
ODD = "ü 漢 \U0001f3ac \\ \" ' \t \n \u2028 \x01"


async def fill(ingest: Ingest) -> None:
    """Items, users and events with all kinds of values, in all three stores."""
    await ingest.stub.UpsertItems(items())
    odd = Item(
        id=ODD, title=ODD, categories=[ODD, "a,b", "{}"], numeric_attributes={"price": 0.1, "big": 1e300}
    )
    odd.expire_time.FromJsonString("9999-12-31T23:59:59.999999Z")
    await ingest.stub.UpsertItems(UpsertItemsRequest(items=[odd, Item(id="item-1", title="changed")]))
    await ingest.stub.DeleteItems(DeleteItemsRequest(item_ids=["item-2"]))
    await ingest.stub.UpsertUsers(UpsertUsersRequest(users=[User(id=ODD, string_attributes={"city": ODD})]))
    context = EventContext(device="tv", country="AT", referrer=ODD)
    context.attributes["k"].string_value = ODD
    context.attributes["n"].number_value = 0.1
    values = [None, 0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, -1.0, 1 / 3]
    written = [event(id=f"value-{n}", value=value) for n, value in enumerate(values)]
    written += [event(id=ODD[:60], item_id=ODD, user_id=ODD, surface=ODD, context=context)]
    written += [event(user_id="", session_id="tab", event_time=Timestamp(seconds=1, nanos=123_456_789))]
    written += [event() for _ in range(300)]
    answer = await ingest.stub.WriteEvents(WriteEventsRequest(events=written))
    assert answer.accepted_count == len(written)
    async with ingest.consumers():
        await ingest.caught_up()
    async with ingest.pool.connection() as connection:
        await connection.execute("TRUNCATE api_clients, retired_days, decisions")  # of a test before
        await connection.execute(
            """INSERT INTO models VALUES ('m1', 'active', now(), now(), '{"ndcg": 0.123456789012345678}', 1, 2, 3, true, 'ü'),
              ('m2', 'held', now(), NULL, '{}', 1, 2, 3, false, '')"""
        )
        await connection.execute(
            "INSERT INTO model_activations (version, activate_time, reason) VALUES ('m1', now(), 'first')"
        )
        await connection.execute(
            "INSERT INTO api_clients (id, name, secret_hash, scopes, origins) VALUES ('c', 'n', '\\x00ff', '{a,\"b c\"}', '{}')"
        )
        await connection.execute("INSERT INTO retired_days VALUES ('2026-01-01', 1, 'sum', now())")
        await connection.execute("INSERT INTO decisions VALUES ('t', 's', 'home', 'm1', now(), '2026-09-21')")


@pytest.fixture
async def other(postgres_server: EmbeddedPostgres, valkey: str, tmp_path: Path) -> AsyncIterator[Settings]:
    """A system of the same stores' servers that has nothing yet."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = postgres_server.database_url(name)
        async with open_pool(url) as pool:
            await migrate(pool, MIGRATIONS)
        yield Settings(data_dir=tmp_path / "other", redis_url=valkey, postgres_url=url, partition_count=2)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def restored(ingest: Ingest, settings: Settings, folder: Path) -> None:
    async with open_pool(settings.postgres_url) as pool:
        await restore(settings, ingest.redis, pool, folder)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def count(settings: Settings, query: str) -> int:
    with psycopg.connect(settings.postgres_url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


async def test_dump_when_restored_into_an_empty_system_and_dumped_again_is_the_same_to_the_byte(
    ingest: Ingest, other: Settings, tmp_path: Path
) -> None:
    await fill(ingest)
    first = await dump(ingest.settings, ingest.redis, tmp_path / "first")
    assert first.counts["events"] == 310
    assert first.counts["items"] == 11
    assert any(file.path.startswith("lake/kind=events/") for file in first.files)
    await ingest.redis.flushall()

    await restored(ingest, other, tmp_path / "first")
    await dump(other, ingest.redis, tmp_path / "second")

    assert digests(tmp_path / "second") == digests(tmp_path / "first")


async def test_restore_when_done_gives_new_items_keys_above_all_others(
    ingest: Ingest, other: Settings, tmp_path: Path
) -> None:
    await fill(ingest)
    await dump(ingest.settings, ingest.redis, tmp_path / "dump")
    await ingest.redis.flushall()
    await restored(ingest, other, tmp_path / "dump")
    with psycopg.connect(other.postgres_url) as connection:
        made = connection.execute(
            """INSERT INTO items (id, title, categories, tags, numeric_attributes, string_attributes, create_time, available, media_url)
              VALUES ('new', '', '{}', '{}', '{}', '{}', now(), true, '') RETURNING key, (SELECT max(key) FROM items)"""
        ).fetchone()
    assert made is not None
    assert made[0] > made[1]
    assert (
        count(other, "SELECT count(*) FROM item_changes WHERE id = 'new'") == 1
    )  # the triggers are on again


async def test_restore_when_the_system_is_not_empty_refuses_and_changes_nothing(
    ingest: Ingest, other: Settings, tmp_path: Path
) -> None:
    await fill(ingest)
    await dump(ingest.settings, ingest.redis, tmp_path / "dump")
    with pytest.raises(StateError, match=r"the stream of partition \d has events"):
        await restored(ingest, other, tmp_path / "dump")
    await ingest.redis.flushall()
    with psycopg.connect(other.postgres_url) as connection:
        connection.execute("INSERT INTO users VALUES ('ann', '{}', '{}', now())")
    with pytest.raises(StateError, match="the table users has rows"):
        await restored(ingest, other, tmp_path / "dump")
    with psycopg.connect(other.postgres_url) as connection:
        connection.execute("TRUNCATE users, user_changes")
    stranger = other.data_dir / "lake/kind=events/date=2026-01-01/hour=00/part-0-1-1.parquet"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    with pytest.raises(StateError, match="the lake has kind=events"):
        await restored(ingest, other, tmp_path / "dump")
    assert count(other, "SELECT count(*) FROM items") == 0


async def test_restore_when_a_file_is_damaged_or_missing_says_which_and_changes_nothing(
    ingest: Ingest, other: Settings, tmp_path: Path
) -> None:
    await fill(ingest)
    await dump(ingest.settings, ingest.redis, tmp_path / "dump")
    await ingest.redis.flushall()
    victim = next((tmp_path / "dump/tables/events").glob("*.zst"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StateError, match=f"{victim.name} is damaged"):
        await restored(ingest, other, tmp_path / "dump")
    victim.unlink()
    with pytest.raises(StateError, match=f"{victim.name} is missing"):
        await restored(ingest, other, tmp_path / "dump")
    (tmp_path / "dump" / NAME).unlink()
    with pytest.raises(StateError, match="it is no dump, or one that was cut off"):
        await restored(ingest, other, tmp_path / "dump")
    assert count(other, "SELECT count(*) FROM items") == 0
    assert not (other.data_dir / "lake").exists()


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        **os.environ, "RECO_DATA_DIR": str(settings.data_dir), "RECO_REDIS_URL": settings.redis_url,
        "RECO_POSTGRES_URL": settings.postgres_url, "RECO_PARTITION_COUNT": "2", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen'}",
    }  # fmt: skip


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from ingest.dump.restore import restore
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.settings import Settings
def tell(name, count):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    settings = Settings()
    async with connect(settings.redis_url) as redis, open_pool(settings.postgres_url) as pool:
        await restore(settings, redis, pool, Path(sys.argv[1]), tell)
asyncio.run(main())
"""


async def test_restore_when_killed_at_any_step_is_run_again_and_whole(
    ingest: Ingest, other: Settings, tmp_path: Path
) -> None:
    await fill(ingest)
    await dump(ingest.settings, ingest.redis, tmp_path / "first")
    await ingest.redis.flushall()
    for step in ("the lake's files", "items", "events", "model_activations"):
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", KILLED, str(tmp_path / "first"), step], env=environment_of(other), cwd=REPOSITORY,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == -9, done.stderr

    await restored(ingest, other, tmp_path / "first")
    await dump(other, ingest.redis, tmp_path / "second")

    assert digests(tmp_path / "second") == digests(tmp_path / "first")


async def test_dump_when_events_come_in_meanwhile_has_the_same_in_the_lake_and_in_the_table(
    ingest: Ingest, tmp_path: Path
) -> None:
    await ingest.stub.UpsertItems(items())
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await ingest.stub.WriteEvents(WriteEventsRequest(events=[event() for _ in range(20)]))

    async with ingest.consumers():
        writing = asyncio.create_task(write())
        before = await ingest.stub.WriteEvents(
            WriteEventsRequest(events=[event(id=f"before-{n}") for n in range(50)])
        )
        assert before.accepted_count == 50
        await dump(ingest.settings, ingest.redis, tmp_path / "dump")
        stop.set()
        await writing
    table, lake = ids_in_table(tmp_path / "dump"), ids_in_lake(tmp_path / "dump")
    assert table == lake
    assert {f"before-{n}" for n in range(50)} <= set(table)


def ids_in_table(folder: Path) -> list[str]:
    import pyarrow as pa

    found: list[str] = []
    for path in (folder / "tables/events").glob("*.zst"):
        with pa.CompressedInputStream(str(path), "zstd") as lines:
            found += [json.loads(line)["event_id"] for line in lines.read().splitlines()]
    return sorted(found)


def ids_in_lake(folder: Path) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = []
    for path in (folder / "lake/kind=events").rglob("*.parquet"):
        found += pq.ParquetFile(path).read(["event_id"])["event_id"].to_pylist()
    return sorted(found)


async def test_tables_when_the_schema_has_another_are_dumped_or_left_out_for_a_reason(ingest: Ingest) -> None:
    async with ingest.pool.connection() as connection:
        rows: list[Any] = await (
            await connection.execute(
                "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
                " AND relnamespace = current_schema()::regnamespace AND relname NOT LIKE 'procrastinate_%'"
            )
        ).fetchall()
    assert {name for (name,) in rows} == {table.name for table in TABLES} | set(NOT_DUMPED)


PEAK = """
import asyncio, sys
from pathlib import Path
from ingest.dump.restore import restore
from ingest.dump.write import dump
from runtime.postgres import open_pool
from runtime.redis_client import connect
from runtime.settings import Settings
async def main():
    settings = Settings()
    async with connect(settings.redis_url) as redis, open_pool(settings.postgres_url) as pool:
        if sys.argv[1] == "dump":
            print((await dump(settings, redis, Path(sys.argv[2]))).counts["events"])
        else:
            print((await restore(settings, redis, pool, Path(sys.argv[2]))).counts["events"])
asyncio.run(main())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""
MORE_MIB_MAX = 24  # than for a tenth of the rows; the larger table's are some 50 MiB of JSON
ROWS = """INSERT INTO events SELECT 'e' || n, 'u:' || n %% 99, n %% 99, '', 1, 'film', 2, '', n / 7.0, now(), now(), repeat('t', 100), 'home',
  jsonb_build_object('device', 'tv'), '2026-09-21', n %% 2, n FROM generate_series(%s::int, %s::int) AS n"""


async def test_dump_and_restore_of_many_rows_take_no_more_memory_than_of_few(
    ingest: Ingest, other: Settings, tmp_path: Path
) -> None:
    peaks: dict[str, list[int]] = {"dump": [], "restore": []}
    for first, last in ((1, 10_000), (10_001, 100_000)):
        async with ingest.pool.connection() as connection:
            await connection.execute(ROWS, (first, last))
        for verb, settings in (("dump", ingest.settings), ("restore", other)):
            counted, peak = await asyncio.to_thread(run_apart, verb, settings, tmp_path / f"dump-{last}")
            assert counted == last
            peaks[verb].append(peak)
        with psycopg.connect(other.postgres_url) as connection:
            names = ", ".join(table.name for table in TABLES)
            connection.execute(f"TRUNCATE {names}".encode())
    assert all(large - small < MORE_MIB_MAX for small, large in peaks.values()), peaks


def run_apart(verb: str, settings: Settings, folder: Path) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, verb, str(folder)], env=environment_of(settings), cwd=REPOSITORY,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counted, peak = map(int, done.stdout.split()[-2:])
    return counted, peak


async def test_dump_when_killed_leaves_no_dump_and_is_run_again(ingest: Ingest, tmp_path: Path) -> None:
    await fill(ingest)
    half = tmp_path / "dump.half"
    half.mkdir()
    (half / "left.txt").write_text("of a dump that was killed")
    with pytest.raises(StateError, match="it is no dump"):
        read(half)

    done = await dump(ingest.settings, ingest.redis, tmp_path / "dump")

    assert done.counts["events"] == 310
    assert not half.exists()
    assert not (tmp_path / "dump/left.txt").exists()
    with pytest.raises(StateError, match="is there already"):
        await dump(ingest.settings, ingest.redis, tmp_path / "dump")


async def test_dump_when_a_day_has_left_the_database_has_it_from_the_lake(
    ingest: Ingest, other: Settings, tmp_path: Path
) -> None:
    await fill(ingest)
    async with ingest.pool.connection() as connection:
        await connection.execute("DELETE FROM events")
    await dump(ingest.settings, ingest.redis, tmp_path / "dump")
    await ingest.redis.flushall()

    await restored(ingest, other, tmp_path / "dump")

    assert count(other, "SELECT count(*) FROM events") == 0
    assert len(ids_in_lake(other.data_dir)) == 310


async def test_dump_when_redis_was_lost_says_what_to_do_first(ingest: Ingest, tmp_path: Path) -> None:
    await fill(ingest)
    await ingest.redis.flushall()
    await ingest.redis.xadd("reco:{events:0}", {"e": b""}, id="1-1")
    await ingest.redis.xadd("reco:{events:1}", {"e": b""}, id="1-1")
    for number in (0, 1):
        await ingest.redis.xgroup_create(f"reco:{{events:{number}}}", "lake", id="$")
    with pytest.raises(StateError, match="run `reco rebuild profiles` first"):
        await dump(ingest.settings, ingest.redis, tmp_path / "dump")
