"""`reco lake`, through the command line's own functions, over a folder and S3 alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from ingest.lake.compact import compact
from ingest.lake.expire import expire
from ingest.lake.files import LakeFiles, LocalLake, open_lake
from ingest.lake.manifest import write_manifest
from runtime.errors import CallerError, StateError
from tests.integration.lake.samples import FOLDER, LATER_S, events, fill, ids, no_check

DAY_S = 86_400.0
A_DAY = 24
Reco = Callable[..., Result]


@pytest.fixture
def reco(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reco:
    """Runs a command over the test's lake; what it raises passes through."""
    monkeypatch.setenv("RECO_LAKE_URL", url)
    monkeypatch.setenv("RECO_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, ["lake", *arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


async def test_list_shows_files_rows_and_bytes_by_kind_and_day(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, events([1, 2]), events([3]), events([4], hour=A_DAY))
    write_manifest(lake, LATER_S)
    await fill(lake, events([1]), partition=1)

    sizes = [sum(found.bytes for found in lake.walk(f"kind=events/date=2026-09-{day}")) for day in (21, 22)]
    assert as_json(reco("list", "--json"))["days"] == [
        {"kind": "events", "date": "2026-09-21", "files": 3, "rows": 4, "bytes": sizes[0]},
        {"kind": "events", "date": "2026-09-22", "files": 1, "rows": 1, "bytes": sizes[1]},
    ]
    assert "2026-09-22" in reco("list").stdout
    assert as_json(reco("list", "--kind", "items", "--json")) == {"days": []}


def test_list_of_an_empty_lake_says_so(reco: Reco) -> None:
    assert "the lake is empty" in reco("list").stdout
    assert "no manifests yet" in reco("list", "--manifests").stdout


async def test_list_shows_manifests(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, events([1, 2]))
    made = write_manifest(lake, LATER_S)

    [shown] = as_json(reco("list", "--manifests", "--json"))["manifests"]

    assert shown == {"number": 1, "time": made.time, "files": 1, "rows": 2, "bytes": made.files[0].bytes}
    assert made.time in reco("list", "--manifests").stdout


async def test_verify_of_a_whole_lake_has_no_fault(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, events([1, 2]), events([3]))

    result = reco("verify", "--json")

    assert result.exit_code == 0
    assert as_json(result) == {
        "files": 2,
        "rows": 3,
        "bytes": sum(found.bytes for found in lake.walk("kind=events")),
        "faults": [],
        "repaired_files": 0,
    }


async def test_verify_names_each_fault_and_exits_1(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, *([each] for each in events(range(1, 7))))
    whole = bytearray(lake.read(f"{FOLDER}/part-0-3-3.parquet"))
    whole[20] ^= 1  # a bit of a page
    first = lake.read(f"{FOLDER}/part-0-1-1.parquet")
    for number, data in ((3, bytes(whole)), (4, None), (6, first)):
        lake.remove(f"{FOLDER}/part-0-{number}-{number}.parquet")
        if data:
            lake.create(f"{FOLDER}/part-0-{number}-{number}.parquet", data)
    lake.create("kind=events/date=2026-09-21/hour=17/part-1-1-1.parquet", first)

    result = reco("verify", "--json")

    assert result.exit_code == 1
    messages = {fault["path"].rpartition("/")[2]: fault["message"] for fault in as_json(result)["faults"]}
    assert "can't be read" in messages["part-0-3-3.parquet"]
    assert messages["part-0-5-5.parquet"] == "follows part-0-3-3.parquet: a file is missing"
    assert messages["part-1-1-1.parquet"] == f"holds events of {FOLDER}"
    assert messages["kind=events"] == "event e1 stands there 3 times"
    assert "4 faults" in reco("verify").stdout


async def test_verify_repairs_what_a_killed_compaction_has_left(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, events([1]), events([2]))
    old = [lake.read(f"{FOLDER}/part-0-{number}-{number}.parquet") for number in (1, 2)]
    compact(lake, 0, LATER_S, no_check)
    for number, data in zip((1, 2), old, strict=True):
        lake.create(f"{FOLDER}/part-0-{number}-{number}.parquet", data)

    before, repaired = reco("verify", "--json"), reco("verify", "--repair", "--json")

    assert (before.exit_code, len(as_json(before)["faults"])) == (1, 2)
    assert (repaired.exit_code, as_json(repaired)["repaired_files"]) == (0, 2)


async def test_query_prints_a_table_csv_or_json(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, events([1, 2]), events([3], hour=A_DAY))
    sql = "SELECT date, sum(1) AS n, min(event_time) AS first FROM events GROUP BY ALL ORDER BY ALL"

    assert as_json(reco("query", sql, "--json")) == {
        "columns": ["date", "n", "first"],
        "rows": [
            ["2026-09-21", 2, "2026-09-21T14:13:21+00:00"],
            ["2026-09-22", 1, "2026-09-21T14:13:23+00:00"],
        ],
    }
    assert reco("query", sql, "--csv").stdout.splitlines()[:2] == [
        "date,n,first",
        "2026-09-21,2,2026-09-21T14:13:21+00:00",
    ]
    assert "2026-09-22" in reco("query", sql).stdout
    assert as_json(reco("query", "SELECT count(*) AS n FROM items", "--json"))["rows"] == [[0]]


async def test_query_of_a_manifest_sees_what_was_there_then(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, events([1]), events([2]))
    write_manifest(lake, LATER_S)
    await fill(lake, events([1, 2, 3]))
    compact(lake, 0, LATER_S, no_check)
    sql = "SELECT count(*) FROM events"

    assert as_json(reco("query", sql, "--manifest", "1", "--json"))["rows"] == [[2]]
    assert as_json(reco("query", sql, "--json"))["rows"] == [[3]]


async def test_query_of_days_does_not_open_the_files_of_others(lake: LakeFiles, reco: Reco) -> None:
    await fill(lake, events([1]), events([2], hour=A_DAY), events([3], hour=2 * A_DAY))
    torn = lake.walk("kind=events")[0].path
    lake.remove(torn)
    lake.create(torn, b"PAR1 torn")
    sql = "SELECT event_id FROM events ORDER BY ALL"

    assert as_json(reco("query", sql, "--from", "2026-09-22", "--json"))["rows"] == [["e2"], ["e3"]]
    assert as_json(reco("query", sql, "--from", "2026-09-22", "--to", "2026-09-22", "--json"))["rows"] == [
        ["e2"]
    ]
    with pytest.raises(StateError, match=r"see `reco lake verify`: .*too small"):
        reco("query", sql)


def test_a_query_that_is_wrong_says_what_is(reco: Reco) -> None:
    with pytest.raises(CallerError, match="evnts"):
        reco("query", "SELECT * FROM evnts")


async def test_restore_of_days_is_a_lake_of_its_own(lake: LakeFiles, reco: Reco, url: str) -> None:
    await fill(lake, events([1]), events([2], hour=A_DAY), events([3], hour=2 * A_DAY))
    target = f"{url}-restored"

    result = reco("restore", target, "--from", "2026-09-22", "--to", "2026-09-22", "--json")

    assert (result.exit_code, as_json(result)["copied_files"], as_json(result)["rows"]) == (0, 1, 1)
    assert ids(open_lake(target, Path())) == ["e2"]
    assert as_json(reco("query", "SELECT event_id FROM events", "--lake", target, "--json"))["rows"] == [
        ["e2"]
    ]


async def test_restore_of_a_manifest_finds_what_was_replaced_since(
    lake: LakeFiles, reco: Reco, url: str
) -> None:
    await fill(lake, events([1]), events([2]))
    write_manifest(lake, LATER_S)
    await fill(lake, events([1, 2, 3]))
    compact(lake, 0, LATER_S, no_check)
    target = f"{url}-restored"

    assert as_json(reco("restore", target, "--manifest", "1", "--json"))["rows"] == 2

    assert ids(open_lake(target, Path())) == ["e1", "e2"]


async def test_a_restore_that_was_stopped_goes_on_and_one_over_other_files_is_refused(
    lake: LakeFiles, reco: Reco, url: str
) -> None:
    await fill(lake, events([1]), events([2]))
    target = open_lake(f"{url}-restored", Path())
    target.create(f"{FOLDER}/part-0-1-1.parquet", lake.read(f"{FOLDER}/part-0-1-1.parquet"))

    assert as_json(reco("restore", f"{url}-restored", "--json"))["rows"] == 2
    target.remove(f"{FOLDER}/part-0-1-1.parquet")
    target.create(f"{FOLDER}/part-0-1-1.parquet", b"another")
    with pytest.raises(StateError, match="choose an empty folder"):
        reco("restore", f"{url}-restored")


async def test_restore_of_what_is_gone_or_was_never_there_says_so(
    lake: LakeFiles, reco: Reco, url: str
) -> None:
    await fill(lake, events([1]))
    write_manifest(lake, LATER_S)
    expire(lake, 1, LATER_S + 3 * DAY_S)

    with pytest.raises(StateError, match="gone for good"):
        reco("restore", f"{url}-restored", "--manifest", "1")
    with pytest.raises(CallerError, match="no file of these days"):
        reco("restore", f"{url}-restored", "--from", "2030-01-01")
    assert reco("restore", f"{url}-restored", "--from", "yesterday").exit_code == 2


async def test_compact_puts_finished_hours_together(lake: LakeFiles, reco: Reco) -> None:
    for partition in (0, 1):
        await fill(lake, events([1]), events([2]), partition=partition)

    assert as_json(reco("compact", "--json")) == {
        "files_before": 4,
        "files_after": 2,
        "doubles": 0,
        "damaged": [],
    }
    assert "0 files became 0" in reco("compact").stdout


def test_help_explains_each_command(reco: Reco) -> None:
    for command in ("list", "verify", "query", "restore", "compact"):
        assert "--json" in reco(command, "--help").stdout


async def test_lake_of_another_place_is_named_by_an_option(tmp_path: Path, reco: Reco) -> None:
    await fill(LocalLake(tmp_path / "other"), events([1]))

    assert len(as_json(reco("list", "--lake", str(tmp_path / "other"), "--json"))["days"]) == 1
