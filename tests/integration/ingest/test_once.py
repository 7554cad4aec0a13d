"""Small steps that exactly-once stands on: marks that go, letters that go back once, sinks that learn anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from redis.asyncio import Redis

from ingest import dead_letters, limits
from ingest.consumer import run
from ingest.dead_letter_files import DeadLetter
from ingest.dead_letters import replay_dead_letters
from ingest.events import StreamEvent
from ingest.lake.files import LocalLake
from ingest.lease import Lease
from ingest.sinks.lake import HOUR_MS, LakeSink
from ingest.stream import Entry, StreamReader, StreamWriter, dead_letters_key, stream_key
from runtime.clock import ManualClock
from runtime.errors import store_unavailable
from tests.integration.ingest.samples import accepted

WAIT_S_MAX = 30.0


async def test_the_mark_of_an_event_id_goes_with_the_window(redis: Redis) -> None:
    await StreamWriter(redis).append(0, [("e1", accepted("e1", 1).SerializeToString())])

    left_s = await redis.ttl(f"{stream_key(0)}:id:e1")

    assert 0 < left_s <= limits.DEDUPLICATION_WINDOW_S


async def test_a_letter_that_two_replay_at_once_goes_back_once(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter: dict[Any, Any] = {"sink": "lake", "entry": "5-0", "reason": "torn", "e": b"data"}
    await redis.xadd(dead_letters_key(0), letter)
    both_have_read = asyncio.Barrier(2)
    read, first = dead_letters._read, [both_have_read.wait, both_have_read.wait]

    async def read_together(*arguments: Any) -> list[DeadLetter]:
        letters = await read(*arguments)
        if first:
            await first.pop()()
        return letters

    monkeypatch.setattr(dead_letters, "_read", read_together)
    counts = await asyncio.gather(*(replay_dead_letters(redis, LocalLake(tmp_path), 1) for _ in range(2)))

    assert sorted(counts) == [0, 1]
    assert await redis.xlen(stream_key(0)) == 1


class Failing:
    """A sink whose store is away for one write; it notes what it is asked to do."""

    batch_events_max = 100
    fill_s = 0.0

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done = asyncio.Event()

    def restart(self) -> None:
        self.asked.append("restart")

    async def write(self, events: Sequence[StreamEvent]) -> None:
        self.asked.append("write")
        if self.asked.count("write") == 1:
            raise store_unavailable("lake", ConnectionResetError())
        self.done.set()


async def test_a_sink_that_failed_is_restarted_before_it_writes_again(redis: Redis) -> None:
    await StreamWriter(redis).append(0, [("e1", accepted("e1", 1).SerializeToString())])
    sink, stop = Failing(), asyncio.Event()
    lease = Lease(redis, 0, "lake", "me", ManualClock())
    task = asyncio.create_task(run(StreamReader(redis, 0, "lake", "me"), sink, lease, stop))
    await asyncio.wait_for(sink.done.wait(), WAIT_S_MAX)
    stop.set()
    await task

    assert sink.asked == ["write", "restart", "write"]


async def test_a_lake_sink_passes_over_what_it_wrote_itself(tmp_path: Path) -> None:
    entries = [Entry((497_223 * HOUR_MS + n) << 16, b"") for n in range(4)]
    events = [StreamEvent(entry, accepted(f"e{n}", n)) for n, entry in enumerate(entries)]
    sink = LakeSink(LocalLake(tmp_path), 0, lambda: None)
    await sink.write(events[:2])
    await sink.write(events)  # a batch that begins with what was not acknowledged in time

    rows = ds.dataset(tmp_path, format="parquet").to_table(columns=["event_id"]).to_pylist()
    assert sorted(row["event_id"] for row in rows) == ["e0", "e1", "e2", "e3"]
