"""Reading the lake: by SQL, by training, by manifest while files change, and by engines that know nothing of us."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pytest

from ingest.lake.compact import compact
from ingest.lake.files import LakeFiles
from ingest.lake.names import EVENTS
from ingest.lake.query import connect, read
from tests.integration.lake.samples import FOLDER, LATER_S, events, fill, no_check
from training.dataset import Dataset, DatasetError
from training.lake import read_lake


def trained(lake: LakeFiles) -> Dataset:
    return read(lake, lambda connection, names: read_lake(names[EVENTS], None, connection))


async def test_sql_over_the_lake_sees_partition_columns_too(lake: LakeFiles) -> None:
    await fill(lake, events([1, 2]), events([3], hour=1))

    with connect(lake, {EVENTS: [f"{FOLDER}/part-0-1-1.parquet"]}) as connection:
        found = connection.execute(
            "SELECT event_id, kind, date::VARCHAR, hour FROM events ORDER BY 1"
        ).fetchall()

    assert [(row[0], row[1], row[2], int(row[3])) for row in found] == [
        ("e1", "events", "2026-09-21", 15),
        ("e2", "events", "2026-09-21", 15),
    ]


async def test_an_empty_lake_has_empty_views(lake: LakeFiles) -> None:
    with connect(lake, {"events": [], "items": [], "users": []}) as connection:
        for kind in ("events", "items", "users"):
            assert connection.execute(f"SELECT count(*) FROM {kind}").fetchall() == [(0,)]
        assert connection.execute("SELECT sum(value), max(event_time) FROM events").fetchall() == [
            (None, None)
        ]


async def test_training_reads_each_event_once_beside_a_file_that_another_replaces(lake: LakeFiles) -> None:
    await fill(lake, events([1, 2]), events([3, 4]))
    before = trained(lake)
    compact(lake, 0, LATER_S, no_check)
    lake.create(f"{FOLDER}/part-0-1-1.parquet", b"PAR1 torn, but replaced")

    after = trained(lake)

    assert (len(before), before.times.tolist()) == (4, after.times.tolist())


async def test_training_on_an_empty_lake_says_what_to_do(lake: LakeFiles) -> None:
    with pytest.raises(DatasetError, match="holds no events yet: load some"):
        trained(lake)


async def test_training_on_a_torn_file_names_it(lake: LakeFiles) -> None:
    await fill(lake, events([1]))
    lake.create("kind=events/torn.parquet", b"PAR1 torn")

    with pytest.raises(DatasetError, match="cannot be read"):
        trained(lake)


async def test_a_read_that_compaction_comes_by_begins_again(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))
    calls = []

    def count(connection: duckdb.DuckDBPyConnection, names: Mapping[str, list[str]]) -> int:
        calls.append(names[EVENTS])
        compact(lake, 0, LATER_S, no_check)
        found = connection.execute("SELECT count(*) FROM read_parquet($1)", [names[EVENTS]]).fetchone()
        return int(found[0]) if found else 0

    assert read(lake, count) == 2
    assert [len(names) for names in calls] == [2, 1]
