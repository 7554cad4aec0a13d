"""Old files and new ones in one query, by our readers and by engines that know nothing of us."""

from __future__ import annotations

import io
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from ingest.lake.compact import compact
from ingest.lake.files import LakeFiles, LocalLake
from ingest.lake.listing import end_of
from ingest.lake.names import EVENTS
from ingest.lake.query import connect, read
from ingest.lake.table import SCHEMA, read_table
from ingest.lake.verify import verify
from tests.integration.lake.samples import FOLDER, LATER_S, NEXT_FOLDER, event, events, fill, ids, no_check
from training.lake import read_lake

LATER_COLUMNS = ("attribution_token", "surface", "context")  # as if the first version had not had them


async def make_old(lake: LakeFiles) -> None:
    """An old file of e1 and e2 without some columns, and without a word in its footer; a new one of e3 in the next hour."""
    await fill(lake, events([1, 2]))
    table = read_table(lake.read(f"{FOLDER}/part-0-1-1.parquet"))
    old = table.select([name for name in SCHEMA.names if name not in LATER_COLUMNS])
    out = io.BytesIO()
    pq.write_table(old.replace_schema_metadata(None), out)
    lake.remove(f"{FOLDER}/part-0-1-1.parquet")
    lake.create(f"{FOLDER}/part-0-1-1.parquet", out.getvalue())
    await fill(lake, events([1, 2]), events([3], hour=1))


async def test_the_sink_goes_on_after_an_old_file(lake: LakeFiles) -> None:
    await make_old(lake)

    assert ids(lake) == ["e1", "e2", "e3"]
    assert (end_of(lake, 0).number, end_of(lake, 0).offset) == (2, event(3, hour=1).offset)
    assert verify(lake).faults == ()


async def test_one_query_reads_both_and_what_the_old_one_lacks_is_null(lake: LakeFiles) -> None:
    await make_old(lake)

    paths = [f"{FOLDER}/part-0-1-1.parquet", f"{NEXT_FOLDER}/part-0-2-2.parquet"]
    with connect(lake, {EVENTS: paths}) as connection:
        found = connection.execute("SELECT event_id, surface FROM events ORDER BY ALL").fetchall()

    assert found == [("e1", None), ("e2", None), ("e3", "")]


async def test_training_reads_both(lake: LakeFiles) -> None:
    await make_old(lake)

    dataset = read(lake, lambda connection, names: read_lake(names[EVENTS], None, connection))

    assert len(dataset) == 3


async def test_an_old_file_and_a_new_one_of_an_hour_are_compacted_into_a_new_one(lake: LakeFiles) -> None:
    await make_old(lake)
    await fill(lake, events([4], hour=1))
    old = lake.read(f"{FOLDER}/part-0-1-1.parquet")
    lake.create("kind=events/date=2026-09-21/hour=14/part-9-1-1.parquet", old)
    lake.create(
        "kind=events/date=2026-09-21/hour=14/part-9-2-2.parquet",
        lake.read(f"{NEXT_FOLDER}/part-0-2-2.parquet"),
    )

    compact(lake, 9, LATER_S, no_check)

    table = read_table(lake.read("kind=events/date=2026-09-21/hour=14/part-9-1-2.parquet"))
    assert set(table.column_names) == set(SCHEMA.names)
    assert table["surface"].to_pylist().count(None) == 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a lake of this machine, for engines that open it by themselves."""
    return tmp_path / "lake"


async def test_pyarrow_reads_a_table_partitioned_by_folders(folder: Path) -> None:
    await make_old(LocalLake(folder))
    schema = pa.schema([*SCHEMA, pa.field("date", pa.string()), pa.field("hour", pa.string())])

    hive = ds.partitioning(pa.schema([("date", pa.string()), ("hour", pa.string())]), flavor="hive")
    table = ds.dataset(folder / "kind=events", partitioning=hive, schema=schema).to_table()

    rows = sorted(
        table.select(["event_id", "surface", "date", "hour"]).to_pylist(), key=lambda row: row["event_id"]
    )
    assert [tuple(row.values()) for row in rows] == [
        ("e1", None, "2026-09-21", "15"),
        ("e2", None, "2026-09-21", "15"),
        ("e3", "", "2026-09-21", "16"),
    ]


async def test_the_statements_of_the_documentation_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = LocalLake(folder)
    await make_old(lake)
    lake.create("_superseded/kind=events/date=2026-09-21/hour=15/part-0-1-1.parquet", b"not to be read")
    monkeypatch.chdir(folder.parent)
    text = (Path(__file__).parents[3] / "docs" / "lake.md").read_text()
    [sql] = [each for each in text.split("```") if each.startswith("sql\n") and "read_parquet" in each]
    [python] = [each for each in text.split("```") if each.startswith("python\n")]

    counted = duckdb.sql(sql.removeprefix("sql\n").replace("2026-11-01", "2026-09-01")).fetchall()
    names: dict[str, object] = {}
    exec(
        python.removeprefix("python\n")
        .replace("ds.dataset", "found = ds.dataset")
        .replace("2026-11-25", "2026-09-21"),
        names,
    )

    assert sum(row[2] for row in counted) == 3
    assert isinstance(names["found"], pa.Table)
    assert names["found"].num_rows == 3
