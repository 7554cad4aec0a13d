"""The loop and the sinks over real stores: redelivery, poison, full disks, leases, trimming."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from redis.asyncio import Redis

from ingest import limits, upkeep
from ingest.consumer import Sink, carry, run
from ingest.dead_letters import list_dead_letters, replay_dead_letters
from ingest.events import StreamEvent
from ingest.lag import lags
from ingest.lake.files import LocalLake
from ingest.lease import Lease
from ingest.sinks.lake import HOUR_MS, LakeSink
from ingest.sinks.postgres import PostgresSink
from ingest.sinks.profile import ProfileSink
from ingest.stream import SINKS, Entry, StreamReader, StreamWriter, dead_letters_key, lease_key, stream_key
from ingest.tail import follow, last_events
from profiles import trending
from profiles.offsets import pack_offset
from profiles.store import read_profile
from runtime.clock import ManualClock
from runtime.errors import DependencyError, OverloadError, RecoError, StateError
from runtime.postgres import Pool
from tests.integration.ingest.samples import EVENT_TIME_S, accepted

NOW_S = EVENT_TIME_S + 3600.0
WAIT_S_MAX = 30.0


def no_check() -> None:
    """The lease of a test is always good."""


def make_sink(name: str, redis: Redis, pool: Pool, folder: Path) -> Sink:
    sinks: dict[str, Sink] = {
        "profile": ProfileSink(redis, 180, ManualClock(NOW_S)),
        "postgres": PostgresSink(pool, 0),
        "lake": QuickLakeSink(LocalLake(folder), 0, no_check),
    }
    return sinks[name]


class QuickLakeSink(LakeSink):
    """Does not wait for its batch to fill."""

    fill_s = 0.0


class ForgetfulReader(StreamReader):
    """Dies between writing and acknowledging."""

    async def acknowledge(self, entries: Sequence[Entry]) -> None:
        raise ConnectionResetError("killed")


async def append(redis: Redis, count: int, first: int = 0) -> list[str]:
    """Appends events to partition 0; returns their ids."""
    ids = [f"e{first + i}" for i in range(count)]
    await StreamWriter(redis).append(
        0, [(each, accepted(each, i).SerializeToString()) for i, each in enumerate(ids)]
    )
    return ids


async def state_of(redis: Redis, pool: Pool, folder: Path) -> object:
    """All that the sinks hold, comparable."""
    async with pool.connection() as connection:
        rows = await (await connection.execute("SELECT * FROM events ORDER BY event_id")).fetchall()
    values = {user: await read_profile(redis, f"u:user-{user}") for user in range(7)}
    keys, scores = await trending.read_trending(redis, NOW_S, 100)
    return rows, lake_rows(folder), values, keys.tolist(), scores.tolist()


def lake_rows(folder: Path) -> list[dict[str, object]]:
    if not folder.exists():
        return []
    rows: list[dict[str, object]] = ds.dataset(folder, partitioning="hive").to_table().to_pylist()
    return sorted(rows, key=lambda row: str(row["event_id"]))


def files_of(folder: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(pattern))


@pytest.mark.parametrize("name", SINKS)
async def test_a_crash_before_acknowledging_redelivers_and_changes_nothing(
    name: str, redis: Redis, pool: Pool, tmp_path: Path
) -> None:
    await append(redis, 50)
    with pytest.raises(ConnectionResetError):
        await carry(ForgetfulReader(redis, 0, name), make_sink(name, redis, pool, tmp_path / "lake"))
    before = await state_of(redis, pool, tmp_path / "lake")
    await append(redis, 20, 50)  # what comes after may not overtake what is delivered again

    reader, sink = StreamReader(redis, 0, name), make_sink(name, redis, pool, tmp_path / "lake")
    await carry(reader, sink)
    after = await state_of(redis, pool, tmp_path / "lake")
    await carry(reader, sink)

    assert before == after
    assert before != await state_of(redis, pool, tmp_path / "lake")
    assert (await lags(redis, 1))[name] == {0: 0}


@pytest.mark.parametrize("name", SINKS)
async def test_batches_of_any_size_end_in_the_same_state(
    name: str, redis: Redis, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(redis, 61)
    sink = make_sink(name, redis, pool, tmp_path / "lake")
    monkeypatch.setattr(type(sink), "batch_events_max", 7)
    reader = StreamReader(redis, 0, name)

    for _ in range(9):
        await carry(reader, sink)

    rows, lake, values, _, _ = await state_of(redis, pool, tmp_path / "lake")  # type: ignore[misc]  # a tuple
    profile_events = sum(value is not None for value in values.values())
    assert {"postgres": len(rows), "lake": len(lake), "profile": profile_events}[name] == (
        7 if name == "profile" else 61
    )
    assert (await lags(redis, 1))[name] == {0: 0}


async def test_rows_of_postgres_and_lake_are_what_was_accepted(
    redis: Redis, pool: Pool, tmp_path: Path
) -> None:
    sample = accepted("full", 1)
    sample.event.value = 3.5
    sample.event.event_time.nanos = 123_456_789
    sample.event.context.device = "phone"
    sample.event.context.attributes["n"].number_value = 2.0
    await StreamWriter(redis).append(0, [("full", sample.SerializeToString())])

    for name in ("postgres", "lake"):
        await carry(StreamReader(redis, 0, name), make_sink(name, redis, pool, tmp_path / "lake"))

    async with pool.connection() as connection:
        columns = "*, extract(epoch FROM event_time)::text AS micros"
        cursor = await connection.execute(f"SELECT {columns} FROM events")  # type: ignore[arg-type]  # ours
        [row] = await cursor.fetchall()
        stored = dict(zip([column.name for column in cursor.description or []], row, strict=True))
    [lake] = lake_rows(tmp_path / "lake")
    assert stored["context"] == {"device": "phone", "attributes": {"n": 2.0}}
    assert stored["micros"].endswith(".123456")
    assert lake["context"] == '{"attributes":{"n":2.0},"device":"phone"}'
    assert lake["signal"] == 2
    for column in (
        "event_id",
        "subject",
        "user_id",
        "item_key",
        "item_id",
        "type",
        "value",
        "event_time",
        "accept_time",
    ):
        assert stored[column] == lake[column], column


@pytest.mark.parametrize("name", SINKS)
async def test_poison_goes_to_the_dead_letters_of_its_sink_and_the_rest_goes_on(
    name: str, redis: Redis, pool: Pool, tmp_path: Path
) -> None:
    await append(redis, 3)
    await redis.xadd(stream_key(0), {"e": b"\xff not an event"})
    await redis.xadd(stream_key(0), {"something": "else"})
    await append(redis, 3, 3)

    await carry(StreamReader(redis, 0, name), make_sink(name, redis, pool, tmp_path / "lake"))

    letters = await list_dead_letters(redis, LocalLake(tmp_path), 1)
    assert [(letter.sink, letter.reason, letter.data) for letter in letters] == [
        (name, "not an AcceptedEvent", b"\xff not an event"),
        (name, "event id, item id or item key is missing", b""),
    ]
    assert (await lags(redis, 1))[name] == {0: 0}


async def test_an_event_that_postgres_can_t_hold_is_set_aside_alone(
    redis: Redis, pool: Pool, tmp_path: Path
) -> None:
    await append(redis, 20)
    await StreamWriter(redis).append(0, [("nul", accepted("n\0l", 1).SerializeToString())])
    await append(redis, 20, 20)

    await carry(StreamReader(redis, 0, "postgres"), PostgresSink(pool, 0))

    [letter] = await list_dead_letters(redis, LocalLake(tmp_path), 1)
    assert letter.sink == "postgres"
    assert "invalid byte sequence" in letter.reason
    async with pool.connection() as connection:
        assert await (await connection.execute("SELECT count(*) FROM events")).fetchall() == [(40,)]


class Broken:
    """A sink with a mistake in it, until it is mended."""

    batch_events_max = 100
    fill_s = 0.0

    def __init__(self) -> None:
        self.is_mended = False
        self.written: list[str] = []

    def restart(self) -> None:
        pass

    async def write(self, events: Sequence[StreamEvent]) -> None:
        if not self.is_mended and any(event.accepted.event.id == "e3" for event in events):
            raise KeyError("e3")
        self.written += [event.accepted.event.id for event in events]


async def test_a_replayed_dead_letter_reaches_its_sink_alone_and_once(redis: Redis, tmp_path: Path) -> None:
    ids = await append(redis, 6)
    broken, other = Broken(), Broken()
    other.is_mended = True
    readers = {"postgres": StreamReader(redis, 0, "postgres"), "lake": StreamReader(redis, 0, "lake")}
    await carry(readers["postgres"], broken)
    await carry(readers["lake"], other)
    [letter] = await list_dead_letters(redis, LocalLake(tmp_path), 1)
    broken.is_mended = True

    replayed = [
        await replay_dead_letters(redis, LocalLake(tmp_path), 1, [letter.id]),
        await replay_dead_letters(redis, LocalLake(tmp_path), 1),
    ]
    await carry(readers["postgres"], broken)
    await carry(readers["lake"], other)

    assert letter.reason == "KeyError: 'e3'"
    assert replayed == [1, 0]
    assert sorted(broken.written) == ids
    assert other.written == ids
    assert await list_dead_letters(redis, LocalLake(tmp_path), 1) == []
    assert (await lags(redis, 1))["lake"] == {0: 0}


async def test_too_many_dead_letters_hold_the_sink_and_lose_none(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DEAD_LETTERS_MAX", 1)
    for data in (b"\xff1", b"\xff2"):
        await redis.xadd(stream_key(0), {"e": data})

    with pytest.raises(OverloadError, match="dead letters"):
        await carry(StreamReader(redis, 0, "lake"), Broken())

    assert [letter.data for letter in await list_dead_letters(redis, LocalLake(tmp_path), 1)] == [b"\xff1"]
    assert (await lags(redis, 1))["lake"] == {0: 1}


class Choosy(QuickLakeSink):
    """The real lake, with a mistake in it that one event meets."""

    async def write(self, events: Sequence[StreamEvent]) -> None:
        if any(event.accepted.event.id == "e3" for event in events):
            raise KeyError("e3")
        await super().write(events)


async def test_an_event_at_fault_that_can_t_be_set_aside_yet_is_not_lost_behind_later_ones(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(redis, 8)
    reader, sink = StreamReader(redis, 0, "lake"), Choosy(LocalLake(tmp_path), 0, no_check)
    with monkeypatch.context() as patch:
        patch.setattr(limits, "DEAD_LETTERS_MAX", 0)
        with pytest.raises(OverloadError, match="dead letters"):
            await carry(reader, sink)
    reader.rewind()
    sink.restart()

    await carry(reader, sink)

    assert [row["event_id"] for row in lake_rows(tmp_path)] == ["e0", "e1", "e2", "e4", "e5", "e6", "e7"]
    assert [letter.reason for letter in await list_dead_letters(redis, LocalLake(tmp_path), 1)] == [
        "KeyError: 'e3'"
    ]
    assert (await lags(redis, 1))["lake"] == {0: 0}


async def test_dead_letters_of_one_millisecond_are_listed_oldest_first(redis: Redis, tmp_path: Path) -> None:
    for place in ("5-9", "5-10"):
        fields = {"sink": "lake", "entry": "1-1", "reason": "", "e": ""}
        await redis.xadd(dead_letters_key(0), fields, id=place)

    assert [letter.id for letter in await list_dead_letters(redis, LocalLake(tmp_path), 1)] == [
        "0:5-9",
        "0:5-10",
    ]


async def test_a_replay_over_a_clock_that_went_back_begins_a_new_millisecond(
    redis: Redis, tmp_path: Path
) -> None:
    ahead_ms = int(time.time() * 1000) + 3_600_000
    await redis.xadd(stream_key(0), {"e": b""}, id=f"{ahead_ms}-{limits.SEQUENCE_TURN + 1}")
    await redis.xadd(dead_letters_key(0), {"sink": "lake", "entry": "1-1", "reason": "", "e": ""})

    await replay_dead_letters(redis, LocalLake(tmp_path), 1)

    assert (await redis.xrevrange(stream_key(0), count=1))[0][0] == f"{ahead_ms + 1}-0".encode()


class FullLake(LocalLake):
    """A disk that is full for the first `times` files, in the middle of writing one."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.times = times

    def write_synced(self, path: Path, data: bytes) -> None:
        super().write_synced(path, data[: len(data) // 2] if self.times else data)
        if self.times:
            self.times -= 1
            raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_makes_the_lake_wait_and_loses_nothing(redis: Redis, tmp_path: Path) -> None:
    ids = await append(redis, 30)
    files = FullLake(tmp_path, times=2)
    stop = asyncio.Event()
    lease = Lease(redis, 0, "lake", "test", ManualClock())
    task = asyncio.create_task(
        run(StreamReader(redis, 0, "lake"), QuickLakeSink(files, 0, no_check), lease, stop)
    )

    async with asyncio.timeout(WAIT_S_MAX):
        while (await lags(redis, 1))["lake"][0]:  # noqa: ASYNC110 -- Redis knows, no event of ours does
            await asyncio.sleep(0.01)
    stop.set()
    await task

    assert files.times == 0
    assert [row["event_id"] for row in lake_rows(tmp_path)] == sorted(ids)
    assert files_of(tmp_path, "*.half") == []


async def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OverloadError, match="free space") as raised:
        FullLake(tmp_path, times=1).create("kind=events/x.parquet", b"data")

    assert raised.value.metadata["store"] == "lake"


async def test_a_lake_batch_over_the_turn_of_an_hour_makes_two_files_and_resumes_after_the_first(
    tmp_path: Path,
) -> None:
    hour_ms = 497_223 * HOUR_MS
    entries = [Entry(ms << 16, b"") for ms in (hour_ms - 2, hour_ms - 1, hour_ms, hour_ms + 1)]
    events = [StreamEvent(entry, accepted(f"e{i}", i)) for i, entry in enumerate(entries)]
    await LakeSink(LocalLake(tmp_path), 0, no_check).write(events[:2])  # as if killed between the two files

    await LakeSink(LocalLake(tmp_path), 0, no_check).write(events)

    files = files_of(tmp_path, "*.parquet")
    assert [path.rpartition("/")[0] for path in files] == [
        "kind=events/date=2026-09-21/hour=14", "kind=events/date=2026-09-21/hour=15",
    ]  # fmt: skip
    assert [row["event_id"] for row in lake_rows(tmp_path)] == ["e0", "e1", "e2", "e3"]


async def test_a_lease_keeps_others_out_until_it_is_released_or_runs_out(redis: Redis) -> None:
    clock = ManualClock()
    mine, yours = (Lease(redis, 0, "lake", holder, clock) for holder in ("me", "you"))

    assert await mine.hold()
    assert not await yours.hold()
    clock.advance(limits.LEASE_TTL_S)
    with pytest.raises(RecoError, match="ran out"):
        mine.check()
    assert await mine.hold()
    mine.check()
    await yours.release()
    assert not await yours.hold()
    await mine.release()
    assert await yours.hold()


async def test_without_the_lease_nothing_is_read(redis: Redis) -> None:
    await append(redis, 5)
    other = Lease(redis, 0, "lake", "other", ManualClock())
    assert await other.hold()
    stop, sink = asyncio.Event(), Broken()
    task = asyncio.create_task(
        run(StreamReader(redis, 0, "lake"), sink, Lease(redis, 0, "lake", "me", ManualClock()), stop)
    )
    await asyncio.sleep(2 * limits.RETRY_WAIT_S_MIN)  # it asks meanwhile, and is told no

    assert sink.written == []
    await other.release()
    sink.is_mended = True
    async with asyncio.timeout(WAIT_S_MAX):
        while len(sink.written) < 5:  # noqa: ASYNC110 -- the sink is a list
            await asyncio.sleep(0.01)
    stop.set()
    await task


async def test_a_process_that_lost_its_lease_takes_nothing_that_its_successor_would_overtake(
    redis: Redis, tmp_path: Path
) -> None:
    clock = ManualClock()
    leases = {holder: Lease(redis, 0, "lake", holder, clock) for holder in ("paused", "successor")}
    readers = {holder: StreamReader(redis, 0, "lake", holder) for holder in leases}
    await append(redis, 3)
    assert await leases["paused"].hold()
    first = await readers["paused"].read(10)
    await redis.delete(lease_key(0, "lake"))  # it was paused for so long that its lease ran out
    assert await leases["successor"].hold()
    await append(redis, 3, 3)

    with pytest.raises(StateError, match="lease"):
        await readers["paused"].read(10)
    again = await readers["successor"].read(10)
    await readers["successor"].acknowledge(again)

    assert again == first
    assert [entry.offset for entry in await readers["successor"].read(10)] == sorted(
        pack_offset(place) for place, _ in (await redis.xrange(stream_key(0)))[3:]
    )


async def test_a_batch_larger_than_one_read_comes_whole_and_in_order_again_and_again(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TAKE_ENTRIES_MAX", 7)
    await append(redis, 30)
    reader = StreamReader(redis, 0, "lake")

    batch = await reader.read(25, fill_s=0.5)
    reader.rewind()

    assert len(batch) == 25
    assert await reader.read(25) == batch


async def test_a_reader_that_waits_is_woken_by_the_next_entry(redis: Redis) -> None:
    await append(redis, 1)
    reader = StreamReader(redis, 0, "lake")
    await reader.acknowledge(await reader.read(10))
    waiting = asyncio.create_task(reader.read(10))
    async with asyncio.timeout(WAIT_S_MAX):
        while not any(b"xread" in str(c).encode() for c in await redis.client_list()):  # noqa: ASYNC110 -- Redis knows
            await asyncio.sleep(0.01)

    await append(redis, 1, 1)

    assert [entry.data for entry in await waiting] == [accepted("e1", 0).SerializeToString()]


async def test_one_turn_of_trimming_lets_go_of_all_that_every_sink_has(redis: Redis) -> None:
    for first in range(0, 25_000, 1000):
        await append(redis, 1000, first)
    last = (await redis.xrevrange(stream_key(0), count=1))[0][0]
    for sink in SINKS:
        await redis.xgroup_create(stream_key(0), sink, id=last)

    await upkeep.trim(redis, 0)

    assert 1 <= await redis.xlen(stream_key(0)) <= 100  # whole nodes of a hundred go


async def test_trimming_follows_the_slowest_sink(redis: Redis) -> None:
    for first in range(0, 1000, 250):
        await append(redis, 250, first)
    readers = {name: StreamReader(redis, 0, name) for name in SINKS}
    batches = {name: await readers[name].read(600) for name in SINKS}
    await upkeep.trim(redis, 0)
    assert await redis.xlen(stream_key(0)) == 1000

    for name in ("profile", "postgres"):
        await readers[name].acknowledge(batches[name])
    await readers["lake"].acknowledge(batches["lake"][:300])
    await upkeep.trim(redis, 0)

    left = await redis.xrange(stream_key(0))
    assert 700 <= len(left) <= 800  # whole nodes of a hundred go
    assert await lags(redis, 1) == {"profile": {0: 400}, "postgres": {0: 400}, "lake": {0: 700}}


async def test_nothing_is_trimmed_before_every_sink_has_come(redis: Redis) -> None:
    await append(redis, 500)
    for name in ("profile", "postgres"):
        reader = StreamReader(redis, 0, name)
        await reader.acknowledge(await reader.read(500))

    await upkeep.trim(redis, 0)

    assert await redis.xlen(stream_key(0)) == 500


async def test_a_reader_out_of_reach_of_redis_says_so(redis: Redis) -> None:
    gone = Redis.from_url("unix:///nonexistent.sock")
    with pytest.raises(DependencyError, match="redis does not answer"):
        await StreamReader(gone, 0, "lake").read(10)
    await gone.aclose()


async def test_tail_shows_the_newest_and_follows(redis: Redis) -> None:
    await append(redis, 30)
    newest, positions = await last_events(redis, 2, 3)
    await append(redis, 2, 30)

    following = follow(redis, positions)
    later = [(await anext(following)).event.id for _ in range(2)]

    assert [each.event.id for each in newest] == ["e27", "e28", "e29"]
    assert later == ["e30", "e31"]


async def test_every_event_reaches_the_profile_it_belongs_to(
    redis: Redis, pool: Pool, tmp_path: Path
) -> None:
    await append(redis, 70)
    await carry(StreamReader(redis, 0, "profile"), make_sink("profile", redis, pool, tmp_path))

    keys, scores = await trending.read_trending(redis, NOW_S, 100)
    counts = Counter(accepted("x", i).item_key for i in range(70))
    assert set(keys.tolist()) == set(counts)
    assert 0 < scores.sum() <= 70
