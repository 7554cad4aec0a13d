"""Readers beside a sink and a compaction that never rest."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import duckdb
import pytest

from ingest.lake import query
from ingest.lake.compact import compact
from ingest.lake.files import LakeFiles, open_lake
from ingest.lake.manifest import write_manifest
from ingest.lake.query import make_views, read
from ingest.lake.verify import verify
from ingest.sinks.lake import LakeSink
from tests.integration.lake.samples import LATER_S, event, fill, ids, no_check

ROUNDS = 40
FIRST = 5  # events that are there from the beginning, each in a file


def count(connection: duckdb.DuckDBPyConnection, names: Mapping[str, list[str]]) -> tuple[int, int, int]:
    """Rows, different events, and the number of the newest."""
    make_views(connection, names)
    sql = "SELECT count(*), count(DISTINCT event_id), max(event_id[2:]::INT) FROM events"
    [(rows, different, newest)] = connection.execute(sql).fetchall()
    return rows, different, newest


async def test_a_state_stays_and_the_lake_grows_without_doubles_and_gaps(
    lake: LakeFiles, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "READ_TRIES_MAX", 100)  # a real compaction comes by once in an hour
    await fill(lake, *([event(number)] for number in range(1, FIRST + 1)))
    state = write_manifest(lake, LATER_S)
    both = Barrier(2)

    def work() -> None:
        mine = open_lake(url, tmp_path)
        sink = LakeSink(mine, 0, no_check)
        both.wait()
        for number in range(FIRST + 1, FIRST + ROUNDS + 1):
            sink._write([event(number)])
            if number % 3 == 0:
                compact(mine, 0, LATER_S, no_check)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        both.wait()
        seen = []
        while not working.done():
            assert read(lake, count, manifest=state) == (FIRST, FIRST, FIRST)
            seen.append(read(lake, count))
        working.result()

    assert all(rows == different == newest for rows, different, newest in seen), seen
    assert len(ids(lake)) == FIRST + ROUNDS
    assert verify(lake).faults == ()
