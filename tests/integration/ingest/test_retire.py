"""An old day leaves Postgres when the lake has the same, and for no other reason; a kill anywhere is gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from ingest import retire as retiring
from ingest.events import StreamEvent
from ingest.lake.files import LocalLake
from ingest.partitions import make_partition
from ingest.retire import LakeFigures, figures_in, retire
from ingest.sinks.lake import LakeSink
from ingest.sinks.postgres import PostgresSink
from ingest.stream import Entry
from runtime import metrics
from runtime.errors import DependencyError
from runtime.postgres import Pool
from tests.integration.ingest.samples import accepted

DAY = date(2026, 9, 22)
NOW_S = datetime(2026, 12, 31, tzinfo=UTC).timestamp()
TABLE = "events_20260922"
EVENT_COUNT = 40


def on(day: date, *ids: str) -> list[StreamEvent]:
    """Entries of that day, one an hour, over and over."""
    ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    hours = [ms + i * 24 // max(1, len(ids)) * 3_600_000 + i for i in range(len(ids))]
    return [StreamEvent(Entry(hours[i] << 16, b""), accepted(each, i)) for i, each in enumerate(ids)]


class Stores:
    """A Postgres and a lake with the same two days."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool, self.folder = pool, folder
        self.files = LocalLake(folder)
        self.lake = figures_in(self.files)
        self.sink = PostgresSink(pool, 0)

    async def fill(self) -> None:
        lake = LakeSink(self.files, 0, lambda: None)
        for day in (DAY, DAY + timedelta(95)):
            await make_partition(self.pool, "events", day)
            events = on(day, *(f"{day}-{i}" for i in range(EVENT_COUNT)))
            await self.sink.write(events)
            await lake.write(events)

    async def retire(self, lake: LakeFigures | None = None, keep_days: int = 90) -> list[date]:
        return await retire(self.pool, lake or self.lake, keep_days, NOW_S)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode())).fetchall()

    async def run(self, statement: str) -> None:
        async with self.pool.connection() as connection:
            assert (await connection.execute(statement.encode())).rowcount in (-1, 1)

    async def count(self) -> int:
        [(count,)] = await self.rows(f"SELECT count(*) FROM events WHERE day = '{DAY}'")
        return int(count)

    def lake_parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"kind=events/date={DAY}/*/*.parquet"))


@pytest.fixture
async def stores(pool: Pool, tmp_path: Path) -> AsyncIterator[Stores]:
    made = Stores(pool, tmp_path)
    await made.run("TRUNCATE retired_days")
    await made.fill()
    yield made
    for (name,) in await made.rows(r"SELECT relname::text FROM pg_class WHERE relname ~ '^events_\d{8}$'"):
        await made.run(f"DROP TABLE {name}")


async def test_a_day_that_the_lake_has_leaves_and_is_written_down(stores: Stores) -> None:
    assert await stores.retire() == [DAY]

    assert await stores.rows(f"SELECT to_regclass('{TABLE}')") == [(None,)]
    assert await stores.rows("SELECT count(*) FROM events") == [(EVENT_COUNT,)]
    [(day, count, checksum)] = await stores.rows("SELECT day, row_count, checksum FROM retired_days")
    assert (day, count) == (DAY, EVENT_COUNT)
    assert checksum == (await stores.lake(DAY)).checksum
    assert await stores.retire() == []


async def test_days_stay_for_ever_when_the_operator_wants_it_so(stores: Stores) -> None:
    assert await stores.retire(keep_days=0) == []
    assert await stores.retire(keep_days=365) == []
    assert await stores.count() == EVENT_COUNT


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM events WHERE event_id = '{DAY}-7'",
        f"UPDATE events SET value = 0.5 WHERE event_id = '{DAY}-7'",
        f"UPDATE events SET event_id = 'other' WHERE event_id = '{DAY}-7'",
        f"INSERT INTO events SELECT (e).* FROM (SELECT json_populate_record(e, '{{\"event_id\": \"more\"}}') AS e FROM events e WHERE event_id = '{DAY}-7') x",
    ],
)
async def test_a_day_that_differs_stays_and_is_told_with_both_figures(stores: Stores, statement: str) -> None:
    await stores.run(statement)
    before = await stores.count()

    with structlog.testing.capture_logs() as logs:
        assert await stores.retire() == []

    assert await stores.count() == before
    [log] = [each for each in logs if each["log_level"] == "error"]
    assert (log["postgres_rows"], log["lake_rows"]) == (before, EVENT_COUNT)
    assert log["postgres_checksum"] != log["lake_checksum"]
    assert metrics.POSTGRES_DAYS_HELD._value.get() == 1  # type: ignore[attr-defined]  # as its tests do
    assert await stores.rows("SELECT FROM retired_days") == []


async def test_a_day_with_a_file_missing_in_the_lake_stays_until_it_is_back(stores: Stores) -> None:
    lost = stores.lake_parts()[3]
    data = lost.read_bytes()
    lost.unlink()
    assert await stores.retire() == []
    assert await stores.count() == EVENT_COUNT

    lost.write_bytes(data)

    assert await stores.retire() == [DAY]


async def test_a_day_with_a_damaged_file_in_the_lake_stays(stores: Stores) -> None:
    part = stores.lake_parts()[0]
    part.write_bytes(part.read_bytes()[:-100])

    with pytest.raises(Exception, match=part.name):
        await stores.retire()

    assert await stores.count() == EVENT_COUNT


@pytest.mark.parametrize("step", ["_detach", "_drop"])
async def test_a_kill_before_any_step_is_gone_on_with(
    stores: Stores, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(retiring, step, killed)
        with pytest.raises(asyncio.CancelledError):
            await stores.retire()
    assert await stores.rows(f"SELECT count(*) FROM {TABLE}") == [(EVENT_COUNT,)]
    assert await stores.rows("SELECT FROM retired_days") == []

    assert await stores.retire() == [DAY]

    assert await stores.rows("SELECT day, row_count FROM retired_days") == [(DAY, EVENT_COUNT)]


async def test_a_detached_day_that_the_lake_has_not_any_more_comes_back(stores: Stores) -> None:
    await stores.run(f"ALTER TABLE events DETACH PARTITION {TABLE}")
    await stores.sink.write(on(DAY, "late"))  # meanwhile it goes to the default partition
    stores.lake_parts()[0].unlink()

    assert await stores.retire() == []

    assert await stores.count() == EVENT_COUNT + 1
    assert await stores.rows("SELECT count(*) FROM events_default") == [(0,)]


async def test_a_row_that_is_written_between_the_two_looks_keeps_the_day(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    async def lake(day: date) -> Any:
        looks.append(day)
        found = await stores.lake(day)
        if len(looks) == 1:
            await stores.sink.write(on(DAY, "late"))
        return found

    assert await stores.retire(lake) == []

    assert await stores.count() == EVENT_COUNT + 1
    assert len(looks) == 2


async def test_a_lake_out_of_reach_keeps_the_day(stores: Stores) -> None:
    async def away(_: date) -> Any:
        raise DependencyError(0, "the lake does not answer")  # type: ignore[arg-type]  # any reason

    with pytest.raises(DependencyError):
        await stores.retire(away)
    assert await stores.count() == EVENT_COUNT


async def test_readers_and_writers_go_on_while_a_day_leaves(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long transaction that has read the table holds off the detaching, which holds up nobody."""
    monkeypatch.setattr("runtime.postgres_locks.LOCK_WAIT_MS_MAX", 50)
    monkeypatch.setattr("runtime.postgres_locks.PAUSE_S_MIN", 0.01)
    async with stores.pool.connection() as reader:
        await reader.execute("SELECT count(*) FROM events")
        with pytest.raises(DependencyError, match="detaching 2026-09-22 did not get its lock"):
            await stores.retire()
        await stores.sink.write(on(DAY + timedelta(95), "new"))
        assert await stores.count() == EVENT_COUNT

    assert await stores.retire() == [DAY]
