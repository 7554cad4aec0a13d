"""Partitions are made ahead, rows get to their days, and nobody who reads or writes meanwhile fails or misses a row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ingest import events_before, partitions
from ingest.events import StreamEvent
from ingest.events_before import move_before
from ingest.partitions import make_ahead, make_partition
from ingest.sinks.postgres import PostgresSink
from ingest.stream import Entry
from runtime.errors import DependencyError
from runtime.postgres import Pool
from tests.integration.ingest.samples import accepted

NOON_S = datetime(2031, 5, 1, 12, tzinfo=UTC).timestamp()
TODAY = date(2031, 5, 1)


async def rows(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def write(pool: Pool, day: date, *ids: str) -> None:
    """Through the sink, as entries of that day."""
    ms = int(datetime(day.year, day.month, day.day, 1, tzinfo=UTC).timestamp() * 1000)
    events = [StreamEvent(Entry(ms + i << 16, b""), accepted(each, i)) for i, each in enumerate(ids)]
    await PostgresSink(pool, 3).write(events)


async def write_before(pool: Pool, event_id: str, accept_time: str) -> None:
    """As the version before did."""
    async with pool.connection() as connection:
        await connection.execute(
            """INSERT INTO events (event_id, subject, user_id, session_id, item_key, item_id, type, custom_type,
              event_time, accept_time, attribution_token, surface, day)
            VALUES (%s, 'u:a', 'a', '', 1, 'i', 1, '', now(), %s, '', '', '1970-01-01')""",
            (event_id, accept_time),
        )


async def places(pool: Pool) -> dict[str, str]:
    """The table that each event lies in."""
    return dict(await rows(pool, "SELECT event_id, tableoid::regclass::text FROM events"))


@pytest.fixture(autouse=True)
async def few_partitions(pool: Pool) -> AsyncIterator[None]:
    """Those of a test go with it."""
    yield
    names = await rows(
        pool, r"SELECT relname::text FROM pg_class WHERE relname ~ '^(events|decisions)_\d{8}$'"
    )
    async with pool.connection() as connection:
        for (name,) in names:
            await connection.execute(f"DROP TABLE {name}".encode())


async def test_partitions_are_made_ahead_once(pool: Pool) -> None:
    made = await make_ahead(pool, NOON_S)

    assert made == 2 * (1 + 1 + partitions.PARTITIONS_AHEAD_DAYS)
    assert await make_ahead(pool, NOON_S) == 0
    assert await make_ahead(pool, NOON_S + 86_400) == 2


async def test_an_event_lies_in_the_partition_of_its_entry_s_day_with_its_place(pool: Pool) -> None:
    await make_ahead(pool, NOON_S)

    await write(pool, TODAY, "a")
    await write(pool, TODAY + timedelta(1), "b")

    assert await places(pool) == {"a": "events_20310501", "b": "events_20310502"}
    [(day, partition, ms)] = await rows(
        pool, "SELECT day, stream_partition, stream_offset >> 16 FROM events WHERE event_id = 'a'"
    )
    assert (day, partition, ms) == (TODAY, 3, int(datetime(2031, 5, 1, 1, tzinfo=UTC).timestamp() * 1000))


async def test_a_partition_has_the_indexes_of_the_table_and_no_check_of_its_own(pool: Pool) -> None:
    await make_partition(pool, "events", TODAY)

    columns = await rows(
        pool,
        "SELECT array_agg(attname ORDER BY attnum)::text FROM pg_attribute a JOIN pg_index i ON a.attrelid = i.indexrelid WHERE indrelid = 'events_20310501'::regclass GROUP BY indexrelid",
    )
    checks = await rows(
        pool, "SELECT FROM pg_constraint WHERE conrelid = 'events_20310501'::regclass AND contype = 'c'"
    )
    assert sorted(columns) == [
        ("{accept_time}",), ("{event_id,day}",), ("{stream_partition,stream_offset}",), ("{subject,event_time}",)
    ]  # fmt: skip
    assert checks == []


async def test_rows_without_a_partition_get_one_and_move_there(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "COPY_ROWS_MAX", 2)
    await write(pool, date(2020, 2, 29), *(f"old{i}" for i in range(5)))
    await write(pool, TODAY, "new")
    assert set((await places(pool)).values()) == {"events_default"}

    await make_ahead(pool, NOON_S)

    assert await places(pool) == {f"old{i}": "events_20200229" for i in range(5)} | {"new": "events_20310501"}
    assert await rows(pool, "SELECT count(*) FROM events_default") == [(0,)]


@pytest.mark.parametrize("step", ["_copy", "_attach"])
async def test_a_kill_while_a_partition_is_made_loses_nothing_and_the_next_turn_goes_on(
    pool: Pool, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(pool, TODAY, "a", "b")

    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(partitions, step, killed)
        with pytest.raises(asyncio.CancelledError):
            await make_partition(pool, "events", TODAY)
    assert await places(pool) == {"a": "events_default", "b": "events_default"}
    await write(pool, TODAY, "c")

    assert await make_partition(pool, "events", TODAY)

    assert await places(pool) == dict.fromkeys("abc", "events_20310501")


async def test_a_reader_of_the_default_partition_makes_the_attaching_wait_shortly_and_no_writer(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.postgres_locks.LOCK_WAIT_MS_MAX", 50)
    monkeypatch.setattr("runtime.postgres_locks.PAUSE_S_MIN", 0.01)
    async with pool.connection() as reader:
        await reader.execute("SELECT count(*) FROM events")

        with pytest.raises(DependencyError, match="events_20310501 did not get its lock in 3 tries"):
            await make_partition(pool, "events", TODAY)
        await write(pool, TODAY, "a")

    assert await make_partition(pool, "events", TODAY)
    assert await places(pool) == {"a": "events_20310501"}


async def test_writers_of_rows_without_a_partition_do_not_notice_that_it_comes(pool: Pool) -> None:
    """Raw ones, which do not come again as the sink does."""
    insert = """INSERT INTO events (event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, event_time,
      accept_time, attribution_token, surface, day)
      SELECT %s || n, '', '', '', 1, '', 1, '', now(), now(), '', '', date '2031-05-01' + n FROM generate_series(1, 20) n"""
    is_made, written = asyncio.Event(), 0

    async def write(name: str) -> None:
        nonlocal written
        while not is_made.is_set():
            async with pool.connection() as connection:
                await connection.execute(insert, (f"{name}-{written}-",))
            written += 20

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for name in "ab":
            tasks.create_task(write(name))
        for day in range(1, 21):
            await make_partition(pool, "events", TODAY + timedelta(day))
        is_made.set()

    assert await rows(pool, "SELECT count(*) FROM events") == [(written,)]
    assert await rows(pool, "SELECT count(*) FROM events_default") == [(0,)]


async def test_two_that_make_the_same_partitions_at_once_make_each_once(pool: Pool) -> None:
    made = await asyncio.gather(*(make_ahead(pool, NOON_S) for _ in range(3)))

    assert sum(made) == 2 * (1 + 1 + partitions.PARTITIONS_AHEAD_DAYS)


async def test_a_writer_that_meets_the_attaching_is_told_to_come_again(pool: Pool) -> None:
    """The statement has chosen the default partition and waits for it; then that takes such rows no more."""
    async with pool.connection() as other:
        await other.execute("CREATE TABLE events_20310501 (LIKE events INCLUDING ALL)")
        await other.execute("LOCK TABLE events_default IN ACCESS EXCLUSIVE MODE")
        writing = asyncio.create_task(write(pool, TODAY, "a"))
        await _waits(pool, "events_default")
        await other.execute(
            "ALTER TABLE events ATTACH PARTITION events_20310501 FOR VALUES FROM ('2031-05-01') TO ('2031-05-02')"
        )

    with pytest.raises(DependencyError):
        await writing
    await write(pool, TODAY, "a")
    assert await places(pool) == {"a": "events_20310501"}


async def test_events_of_before_move_to_their_days_and_their_partition_goes(
    before: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_before, "MOVE_ROWS_MAX", 2)
    for i in range(3):
        await write_before(before, f"x{i}", "2031-05-01 23:59:59.9+00")
    await write_before(before, "y", "2031-05-02 00:00:00+00")
    # Delivered again since: once on its day, once just after midnight.
    await write(before, TODAY, "x1")
    await write(before, TODAY + timedelta(1), "x2")

    assert await move_before(before, batches_max=1) > 0
    assert await rows(before, "SELECT count(DISTINCT event_id) FROM events") == [(4,)]
    await move_before(before)

    assert await places(before) == {
        "x0": "events_20310501", "x1": "events_20310501", "x2": "events_20310502", "y": "events_20310502",
    }  # fmt: skip
    assert await rows(before, "SELECT event_id FROM events WHERE stream_offset > 0 ORDER BY 1") == [
        ("x1",), ("x2",)
    ]  # fmt: skip
    assert await rows(before, "SELECT to_regclass('events_before')") == [(None,)]
    assert await move_before(before) == 0


@pytest.fixture
async def before(pool: Pool) -> AsyncIterator[Pool]:
    """A database with an empty partition of before, also for the tests after."""
    make = [
        "CREATE TABLE IF NOT EXISTS events_before (LIKE events INCLUDING ALL)",
        "ALTER TABLE events ATTACH PARTITION events_before FOR VALUES FROM (MINVALUE) TO ('1970-01-02')",
    ]
    yield pool
    if await rows(pool, "SELECT to_regclass('events_before')") == [(None,)]:
        async with pool.connection() as connection:
            for statement in make:
                await connection.execute(statement.encode())


async def _waits(pool: Pool, table: str) -> None:
    query = f"SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
    async with asyncio.timeout(30):
        while await rows(pool, query) == [(0,)]:  # noqa: ASYNC110 -- Postgres knows
            await asyncio.sleep(0.01)
