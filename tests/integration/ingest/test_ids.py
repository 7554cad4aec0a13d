"""Stream ids never go back: not even behind a replica that took over and lacks the newest entries."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from ingest.consumer import carry
from ingest.lake.files import LocalLake
from ingest.sinks.lake import LakeSink, lift_ids
from ingest.stream import StreamReader, StreamWriter, stream_key
from profiles.offsets import entry_id_of, pack_offset
from tests.integration.ingest.samples import accepted

AHEAD_MS = 3_600_000  # how far the clock of the primary before was ahead


async def append(redis: Redis, name: str) -> int:
    [place] = await StreamWriter(redis).append(0, [(name, accepted(name, 1).SerializeToString())])
    return place.offset


async def carry_all(redis: Redis, folder: Path) -> None:
    """What is new goes to the lake, by a sink that begins anew."""
    files = LocalLake(folder)
    reader = StreamReader(redis, 0, "lake", begin=partial(lift_ids, redis, files, 0))
    await carry(reader, LakeSink(files, 0, lambda: None))


@pytest.mark.parametrize("lost", ["the newest entries", "everything"])
async def test_entries_behind_a_failover_that_lost_some_go_to_the_lake(
    redis: Redis, tmp_path: Path, lost: str
) -> None:
    before = await append(redis, "e1")
    await redis.xadd(
        stream_key(0), {"e": accepted("e2", 2).SerializeToString()}, id=entry_id_of(before + (AHEAD_MS << 16))
    )
    await carry_all(redis, tmp_path)
    await redis.delete(stream_key(0))
    if lost == "the newest entries":
        await redis.xadd(stream_key(0), {"e": accepted("e1", 1).SerializeToString()}, id=entry_id_of(before))

    with capture_logs() as logs:
        await carry_all(redis, tmp_path)  # finds nothing, or what the lake has; and lifts the ids
    after = await append(redis, "e3")
    await carry_all(redis, tmp_path)

    assert after > before + (AHEAD_MS << 16)
    assert "the stream had lost what the lake has: new entries go behind that" in [
        log["event"] for log in logs
    ]
    names = ds.dataset(tmp_path, format="parquet").to_table(columns=["event_id"])["event_id"].to_pylist()
    assert sorted(names) == ["e1", "e2", "e3"]


async def test_a_stream_that_is_ahead_of_the_lake_is_left_alone(redis: Redis, tmp_path: Path) -> None:
    await append(redis, "e1")
    await carry_all(redis, tmp_path)
    last = await append(redis, "e2")
    with capture_logs() as logs:
        await carry_all(redis, tmp_path)

    info = await redis.xinfo_stream(stream_key(0))
    assert pack_offset(info["last-generated-id"]) == last
    assert not logs
