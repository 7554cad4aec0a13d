"""The lake's files: whole or not there, in a folder and in an object store alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from ingest.lake_files import LakeFiles, LocalLake, ObjectLake, file_name, last_offset, open_lake
from runtime.errors import DependencyError

HOUR = "kind=events/date=2026-11-23/hour=09"


@pytest.fixture(params=["folder", "object store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> LakeFiles:
    """Each kind of lake over an empty folder."""
    if request.param == "folder":
        return LocalLake(tmp_path)
    return ObjectLake(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "")


def put(lake: LakeFiles, path: str, root: Path) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)  # an object store has no folders to make
    lake.put(path, b"data")


def test_what_is_put_is_listed_and_read(lake: LakeFiles, tmp_path: Path) -> None:
    put(lake, f"{HOUR}/b", tmp_path)
    put(lake, f"{HOUR}/a", tmp_path)

    assert lake.list(HOUR) == ["a", "b"]
    assert (tmp_path / HOUR / "a").read_bytes() == b"data"


def test_a_folder_that_is_not_there_is_empty(lake: LakeFiles) -> None:
    assert lake.list("nothing") == []
    assert last_offset(lake, 0) == 0


def test_last_offset_is_the_newest_file_s_of_the_partition(lake: LakeFiles, tmp_path: Path) -> None:
    day = "kind=events/date=2026-11-22/hour=23"
    for folder, name in (
        (day, file_name(0, 1, 5)), (day, file_name(1, 2, 900)), (HOUR, file_name(1, 901, 950)),
        (HOUR, file_name(0, 6, 9)), (HOUR, file_name(0, 10, 70)), (HOUR, ".part-0-71-99.parquet.half"),
        ("kind=events/date=2026-11-23/hour=10", file_name(10, 1, 5000)),
    ):  # fmt: skip
        put(lake, f"{folder}/{name}", tmp_path)

    assert [last_offset(lake, partition) for partition in (0, 1, 10, 2)] == [70, 950, 5000, 0]


def test_last_offset_removes_half_files_of_its_partition_alone(lake: LakeFiles, tmp_path: Path) -> None:
    later = HOUR.replace("hour=09", "hour=10")
    mine, yours = f"{later}/.part-0-71-99.parquet.half", f"{later}/.part-1-71-99.parquet.half"
    for path in (f"{HOUR}/{file_name(0, 1, 70)}", mine, yours):
        put(lake, path, tmp_path)

    assert last_offset(lake, 0) == 70
    assert [(tmp_path / path).exists() for path in (mine, yours)] == [False, True]
    assert last_offset(lake, 0) == 70


def test_last_offset_passes_over_what_others_have_put_there(lake: LakeFiles, tmp_path: Path) -> None:
    for path in (f"{HOUR}/{file_name(0, 1, 70)}", "kind=events/readme", "kind=events/date=2026-11-23/readme"):
        put(lake, path, tmp_path)

    assert last_offset(lake, 0) == 70


def test_a_lake_out_of_reach_says_so(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where the lake should be")

    with pytest.raises(DependencyError, match="lake does not answer"):
        LocalLake(tmp_path / "lake").put("kind=events/x", b"")


def test_the_settings_choose_the_kind_of_lake(tmp_path: Path) -> None:
    open_lake("", tmp_path).put("x", b"1")
    open_lake(str(tmp_path / "elsewhere"), tmp_path).put("y", b"2")

    assert (tmp_path / "lake" / "x").exists()
    assert (tmp_path / "elsewhere" / "y").exists()
    assert isinstance(open_lake(f"file://{tmp_path}", tmp_path), ObjectLake)
