"""Floods of what a sink can't take: they go to the lake, the partition goes on, and all of them can come back, each once."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from reco.ingest.v1.event_pb2 import AcceptedEvent
from redis.asyncio import Redis

from ingest import dead_letter_files, dead_letters, limits
from ingest.dead_letters import list_dead_letters, replay_dead_letters, spill
from ingest.events import StreamEvent
from ingest.lake.files import LocalLake
from ingest.sinks.postgres import PostgresSink
from ingest.stream import SINKS, StreamWriter, dead_letters_key, stream_key
from runtime.errors import DependencyError, store_unavailable
from tests.integration.ingest.harness import Ingest
from tests.integration.ingest.samples import accepted

KEPT, FILED, MOST = 20, 50, 100


@pytest.fixture(autouse=True)
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small enough for a flood of hundreds."""
    monkeypatch.setattr(limits, "DEAD_LETTERS_KEPT", KEPT)
    monkeypatch.setattr(limits, "DEAD_LETTERS_FILED", FILED)
    monkeypatch.setattr(limits, "DEAD_LETTERS_MAX", MOST)
    monkeypatch.setattr(limits, "SPILL_EVERY_S", 0.02)
    monkeypatch.setattr(limits, "RETRY_WAIT_S_MAX", 0.1)


async def put_letters(redis: Redis, count: int, first: int = 0) -> list[bytes]:
    """Sets letters aside in partition 0, as the lake's sink would."""
    made = [f"letter {first + i}".encode() for i in range(count)]
    async with redis.pipeline(transaction=False) as pipeline:
        for data in made:
            pipeline.xadd(dead_letters_key(0), {"sink": "lake", "entry": "5-0", "reason": "torn", "e": data})
        await pipeline.execute()
    return made


async def in_stream(redis: Redis) -> list[bytes]:
    return [fields[b"e"] for _, fields in await redis.xrange(stream_key(0))]


async def listed(redis: Redis, files: LocalLake) -> list[bytes]:
    return [letter.data for letter in await list_dead_letters(redis, files, 1, 10_000)]


class FullLake(LocalLake):
    """Takes no file before it is mended."""

    is_mended = False

    def create(self, path: str, data: bytes) -> None:
        if not self.is_mended:
            raise store_unavailable("lake", OSError("full"))
        super().create(path, data)


async def in_postgres(ingest: Ingest) -> Counter[str]:
    async with ingest.pool.connection() as connection:
        rows = await (await connection.execute("SELECT event_id FROM events")).fetchall()
    return Counter(row[0] for row in rows)


def in_lake(ingest: Ingest) -> Counter[str]:
    table = ds.dataset(ingest.settings.data_dir / "lake", partitioning="hive").to_table(columns=["event_id"])
    return Counter(table["event_id"].to_pylist())


async def test_a_flood_of_poison_holds_nobody_up_and_comes_back_when_it_is_mended(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [f"bad{i}" for i in range(5 * MOST)]
    good = [f"good{i}" for i in range(40)]
    events = [(each, accepted(each, i).SerializeToString()) for i, each in enumerate([*bad, *good])]
    await StreamWriter(ingest.redis).append(0, events)
    for _ in range(MOST):
        await ingest.redis.xadd(stream_key(0), {"e": b"\xff rubbish"})
    await StreamWriter(ingest.redis).append(0, [("last", accepted("last", 1).SerializeToString())])
    write = PostgresSink.write

    async def choosy(sink: PostgresSink, events: Sequence[StreamEvent]) -> None:
        for event in events:
            if event.accepted.event.id.startswith("bad"):
                raise KeyError(event.accepted.event.id)
        await write(sink, events)

    files = LocalLake(ingest.settings.data_dir / "lake")
    with monkeypatch.context() as broken:
        broken.setattr(PostgresSink, "write", choosy)
        async with ingest.consumers():
            await ingest.caught_up()
    assert await in_postgres(ingest) == Counter([*good, "last"])
    assert in_lake(ingest) == Counter([*bad, *good, "last"])
    assert await ingest.redis.xlen(dead_letters_key(0)) <= MOST
    letters = await list_dead_letters(ingest.redis, files, 1, 10_000)
    assert Counter(letter.sink for letter in letters) == {
        "postgres": len(bad) + MOST, "lake": MOST, "profile": MOST,
    }  # fmt: skip

    replayed = await replay_dead_letters(ingest.redis, files, 1)
    async with ingest.consumers():
        await ingest.caught_up()

    assert replayed == len(letters)
    assert await in_postgres(ingest) == Counter([*bad, *good, "last"])
    assert in_lake(ingest) == Counter([*bad, *good, "last"])
    assert await listed(ingest.redis, files) == [b"\xff rubbish"] * 3 * MOST  # refused again, and kept again


def odd_events() -> dict[str, AcceptedEvent]:
    """Events that can be read, and that no door would let in: put there by another version, or by hand."""
    long = random.Random(1).randbytes(4_000).hex()  # too long for an index, and not to be compressed
    made = {name: accepted(name, i) for i, name in enumerate(ODD)}
    made["long user"].event.user_id = long
    made["long id"].event.id = long
    made["nul in a text"].event.custom_type = "a\0b"
    made["unknown type"].event.type = 300  # type: ignore[assignment]  # an open enum
    made["type beyond 16 bits"].event.type = 100_000  # type: ignore[assignment]
    made["negative type"].event.type = -1  # type: ignore[assignment]
    made["nanos"].event.event_time.nanos = 2_000_000_000
    made["negative nanos"].event.event_time.nanos = -5
    made["last second"].event.event_time.seconds = (1 << 32) - 1
    made["accepted in ages"].accept_time.seconds = 1 << 61
    made["not a number"].event.value = math.nan
    made["infinite"].event.value = math.inf
    made["attribute"].event.context.attributes["x"].number_value = math.nan
    made["empty attribute"].event.context.attributes["x"].SetInParent()
    made["nul in a name"].event.context.attributes["a\0b"].string_value = "\0"
    return made


ODD = (
    "long user", "long id", "nul in a text", "unknown type", "type beyond 16 bits", "negative type", "nanos", "negative nanos",
    "last second", "accepted in ages", "not a number", "infinite", "attribute", "empty attribute", "nul in a name",
)  # fmt: skip


async def test_odd_events_are_stored_or_set_aside_by_each_sink_and_hold_nobody_up(ingest: Ingest) -> None:
    odd = odd_events()
    good = [f"good{i}" for i in range(len(odd))]
    for number, (name, each) in enumerate(odd.items()):
        entries = [(name, each.SerializeToString())]
        entries.append((good[number], accepted(good[number], number).SerializeToString()))
        await StreamWriter(ingest.redis).append(0, entries)

    async with ingest.consumers():
        await ingest.caught_up()

    letters = await list_dead_letters(ingest.redis, LocalLake(ingest.settings.data_dir / "lake"), 1, 1_000)
    refused = {
        sink: {AcceptedEvent.FromString(x.data).event.id for x in letters if x.sink == sink} for sink in SINKS
    }
    sent = {each.event.id for each in odd.values()} | set(good)
    stored = {"postgres": await in_postgres(ingest), "lake": in_lake(ingest)}
    for sink, found in stored.items():
        assert set(found) | refused[sink] == sent, sink
        assert not set(found) & refused[sink], sink
        assert set(found.values()) == {1}, sink
    assert not refused["profile"] & set(good)


async def test_letters_beyond_the_bound_go_to_files_and_are_listed_with_those_that_stay(
    redis: Redis, tmp_path: Path
) -> None:
    files = LocalLake(tmp_path)
    made = await put_letters(redis, 3 * FILED + KEPT + 7)

    await spill(redis, files, 0)

    assert await redis.xlen(dead_letters_key(0)) == KEPT + 7
    assert len(dead_letter_files.paths_of(files, 0)) == 3
    assert await listed(redis, files) == made
    assert [x.data for x in await list_dead_letters(redis, files, 1, FILED + 3)] == made[: FILED + 3]


async def test_letters_that_the_lake_does_not_take_stay_and_go_later(redis: Redis, tmp_path: Path) -> None:
    files = FullLake(tmp_path)
    made = await put_letters(redis, FILED + KEPT)
    with pytest.raises(DependencyError):
        await spill(redis, files, 0)
    assert await listed(redis, files) == made
    more = await put_letters(redis, FILED, FILED + KEPT)

    files.is_mended = True
    await spill(redis, files, 0)

    assert await redis.xlen(dead_letters_key(0)) == KEPT
    assert await listed(redis, files) == [*made, *more]


async def test_processes_that_spill_at_once_make_each_file_once(redis: Redis, tmp_path: Path) -> None:
    made = await put_letters(redis, 4 * FILED + KEPT)
    lakes = [LocalLake(tmp_path) for _ in range(3)]

    await asyncio.gather(*(spill(redis, files, 0) for files in lakes))

    assert len(dead_letter_files.paths_of(lakes[0], 0)) == 4
    assert await listed(redis, lakes[0]) == made


async def test_a_replay_of_all_takes_those_of_files_too_and_each_once(redis: Redis, tmp_path: Path) -> None:
    files = LocalLake(tmp_path)
    made = await put_letters(redis, 2 * FILED + KEPT)
    await spill(redis, files, 0)

    counts = await asyncio.gather(*(replay_dead_letters(redis, LocalLake(tmp_path), 1) for _ in range(2)))

    assert sum(counts) == len(made)
    assert sorted(await in_stream(redis)) == sorted(made)
    assert await listed(redis, files) == []
    assert dead_letter_files.paths_of(files, 0) == []


async def test_a_letter_of_a_file_that_is_named_goes_back_once_and_the_others_stay(
    redis: Redis, tmp_path: Path
) -> None:
    files = LocalLake(tmp_path)
    made = await put_letters(redis, FILED + KEPT)
    await spill(redis, files, 0)
    letter = (await list_dead_letters(redis, files, 1))[3]

    counts = [await replay_dead_letters(redis, files, 1, [letter.id]) for _ in range(2)]

    assert counts == [1, 0]
    assert await in_stream(redis) == [made[3]]
    assert await listed(redis, files) == [*made[:3], *made[4:]]


async def test_a_file_that_is_made_again_by_who_was_paused_counts_for_nothing(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = LocalLake(tmp_path)
    made = await put_letters(redis, FILED + KEPT)
    paused: list[tuple[object, ...]] = []
    write = dead_letters._file

    def file_and_remember(*arguments: object) -> None:
        paused.append(arguments)
        write(*arguments)  # type: ignore[arg-type]  # as it is called

    monkeypatch.setattr(dead_letters, "_file", file_and_remember)
    await spill(redis, files, 0)
    await replay_dead_letters(redis, files, 1)

    write(*paused[0])  # type: ignore[arg-type]  # as it was called

    assert await listed(redis, files) == []
    assert await replay_dead_letters(redis, files, 1) == 0
    assert sorted(await in_stream(redis)) == sorted(made)


def test_letters_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    files = LocalLake(tmp_path)
    letters: Sequence[dead_letter_files.DeadLetter] = [
        dead_letter_files.DeadLetter("3:17-2", 3, "lake", "torn", 5 << 16 | 9, b"\0\xff"),
        dead_letter_files.DeadLetter("3:18-0", 3, "profile", "é", 1, b""),
    ]
    path = dead_letter_files.path_of(3, letters)
    files.create(path, dead_letter_files.to_parquet(letters))

    assert dead_letter_files.read(files, 3, path) == letters
    assert dead_letter_files.newest_of(path) == letters[-1].place


async def test_a_letter_that_is_none_goes_to_the_lake_with_the_others(redis: Redis, tmp_path: Path) -> None:
    files = LocalLake(tmp_path)
    await redis.xadd(dead_letters_key(0), {"entry": "rubbish", "sink": b"\xff", "e": b"x"})
    await redis.xadd(dead_letters_key(0), {"something": "else"})
    made = await put_letters(redis, FILED + KEPT)

    await spill(redis, files, 0)

    assert await redis.xlen(dead_letters_key(0)) == KEPT + 2
    assert await listed(redis, files) == [b"x", b"", *made]
    assert await replay_dead_letters(redis, files, 1) == len(made)
    assert await listed(redis, files) == [b"x", b""]
