"""Count and checksum of a day agree between Postgres and the lake for the same events, and for no others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reco.ingest.v1.event_pb2 import AcceptedEvent

from ingest import event_figures
from ingest.event_figures import Figures, postgres_figures
from ingest.events import StreamEvent
from ingest.lake.files import LocalLake
from ingest.partitions import make_partition
from ingest.retire import figures_in
from ingest.sinks.lake import LakeSink
from ingest.sinks.postgres import PostgresSink
from ingest.stream import Entry
from runtime.postgres import Pool
from tests.integration.ingest.samples import accepted

DAY = date(2026, 9, 22)
DAY_MS = 1_790_035_200_000  # its beginning
TABLE = "events_20260922"

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
values = st.one_of(
    st.floats(allow_nan=True), st.floats(min_value=-1e6, max_value=1e6), st.integers(-10, 10).map(float)
)


@st.composite
def events(draw: st.DrawFn) -> list[AcceptedEvent]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        each = accepted(f"{draw(texts)}{number}", number)
        sent = each.event
        sent.user_id, sent.item_id, sent.custom_type = draw(texts) + "u", draw(texts) + "i", draw(texts)
        sent.surface, sent.attribution_token = draw(texts), draw(texts)
        sent.event_time.nanos = draw(st.integers(0, 999_999_999))
        if draw(st.booleans()):
            sent.value = draw(values)
        if draw(st.booleans()):
            sent.context.device, sent.context.locale = draw(texts), draw(texts)
            for name in draw(st.lists(texts, max_size=4)):
                attribute = sent.context.attributes[name]
                kind = draw(st.sampled_from(("string_value", "number_value", "bool_value")))
                drawn = {"string_value": texts, "number_value": values, "bool_value": st.booleans()}[kind]
                setattr(attribute, kind, draw(drawn))
        made.append(each)
    return made


def on_the_day(made: Sequence[AcceptedEvent]) -> list[StreamEvent]:
    return [StreamEvent(Entry((DAY_MS + i) << 16, b""), each) for i, each in enumerate(made)]


async def in_lake(folder: Path) -> Figures:
    return await figures_in(LocalLake(folder))(DAY)


async def in_postgres(pool: Pool) -> Figures:
    async with pool.connection() as connection:
        return await postgres_figures(connection, TABLE)


async def write_both(made: Sequence[StreamEvent], pool: Pool, folder: Path) -> None:
    await PostgresSink(pool, 0).write(made)
    await LakeSink(LocalLake(folder), 0, lambda: None).write(made)


@pytest.fixture
async def day_pool(pool: Pool) -> Pool:
    await make_partition(pool, "events", DAY)
    return pool


async def test_figures_of_any_events_agree(day_pool: Pool, tmp_path: Path) -> None:
    runs = 0

    async def check(made: list[AcceptedEvent]) -> None:
        nonlocal runs
        runs += 1
        async with day_pool.connection() as connection:
            await connection.execute("TRUNCATE events")
        folder = tmp_path / str(runs)
        if made:
            await write_both(on_the_day(made), day_pool, folder)
        found = await in_postgres(day_pool)
        assert found.row_count == len(made)
        assert found == await in_lake(folder)

    loop = asyncio.get_running_loop()

    @settings(suppress_health_check=list(HealthCheck))
    @given(events())
    def run(made: list[AcceptedEvent]) -> None:
        asyncio.run_coroutine_threadsafe(check(made), loop).result()

    await asyncio.to_thread(run)


async def test_figures_that_are_put_together_from_parts_are_the_same(
    day_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [accepted(f"e{i % 450}", i) for i in range(500)]
    await write_both(on_the_day(made), day_pool, tmp_path)
    whole = [await in_postgres(day_pool), await in_lake(tmp_path)]

    monkeypatch.setattr(event_figures, "BLOCKS_MAX", 1)
    monkeypatch.setattr(event_figures, "LAKE_ROWS_MAX", 7)

    assert whole[0].row_count == 450
    assert [whole[0], await in_postgres(day_pool), await in_lake(tmp_path)] == [whole[0], *whole]


async def test_of_an_id_that_came_twice_the_first_counts(day_pool: Pool, tmp_path: Path) -> None:
    first, again = accepted("a", 1), accepted("a", 2)

    await write_both(on_the_day([first, accepted("b", 1), again]), day_pool, tmp_path)

    assert await in_postgres(day_pool) == await in_lake(tmp_path)
    assert (await in_lake(tmp_path)).row_count == 2


@pytest.mark.parametrize(
    "change",
    [
        "value = 3.25",
        "value = NULL",
        "subject = subject || ' '",
        "event_time = event_time + interval '1 microsecond'",
        "item_id = 'item-1user', user_id = ''",
        'context = \'{"attributes": {"n": "2"}, "device": "phone"}\'',
        'context = \'{"attributes": {"n": 2, "device": "phone"}}\'',
        "context = '{}'",
        "context = NULL",
    ],
)
async def test_an_altered_value_has_another_checksum(day_pool: Pool, tmp_path: Path, change: str) -> None:
    sample = accepted("a", 1)
    sample.event.value = 3.5
    sample.event.context.device = "phone"
    sample.event.context.attributes["n"].number_value = 2.0
    await write_both(on_the_day([sample, accepted("b", 2)]), day_pool, tmp_path)
    async with day_pool.connection() as connection:
        assert await postgres_figures(connection, TABLE) == await in_lake(tmp_path)

        changed = await connection.execute(f"UPDATE {TABLE} SET {change} WHERE event_id = 'a'".encode())

        assert changed.rowcount == 1
        found = await postgres_figures(connection, TABLE)
    assert found.row_count == 2
    assert found.checksum != (await in_lake(tmp_path)).checksum
