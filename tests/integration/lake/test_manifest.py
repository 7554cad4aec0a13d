"""A manifest's state stays readable while files change, and files go when none is left that names them."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pytest

from ingest.lake import manifest as manifests
from ingest.lake.compact import compact
from ingest.lake.expire import HALF_KEEP_S, SUPERSEDED_KEEP_S, expire, remove_halves, remove_superseded
from ingest.lake.files import LakeFiles
from ingest.lake.manifest import newest, numbers, paths_of, read_manifest, write_manifest
from ingest.lake.names import EVENTS, SUPERSEDED_FOLDER
from ingest.lake.query import read
from runtime.errors import NotFoundError, StateError
from tests.integration.lake.samples import FOLDER, HOUR, LATER_S, event, events, fill, ids, no_check

DAY_S = 86_400.0


def count(connection: duckdb.DuckDBPyConnection, names: Mapping[str, list[str]]) -> int:
    [[found]] = connection.execute("SELECT count(*) FROM read_parquet($1)", [names[EVENTS]]).fetchall()
    return int(found)


async def test_a_manifest_says_what_each_file_holds(lake: LakeFiles) -> None:
    await fill(lake, events([1, 2]), events([3]))

    made = write_manifest(lake, LATER_S)

    assert made == read_manifest(lake, 1) == newest(lake)
    assert (made.number, made.rows, made.time) == (1, 3, "2026-09-21T18:00:00.000+00:00")
    sizes = {found.path: found.bytes for found in lake.walk(FOLDER)}
    assert [(entry.path, entry.rows, entry.bytes, entry.last_offset) for entry in made.files] == [
        (f"{FOLDER}/part-0-1-1.parquet", 2, sizes[f"{FOLDER}/part-0-1-1.parquet"], event(2).offset),
        (f"{FOLDER}/part-0-2-2.parquet", 1, sizes[f"{FOLDER}/part-0-2-2.parquet"], event(3).offset),
    ]


async def test_a_lake_that_did_not_change_needs_no_new_manifest(lake: LakeFiles) -> None:
    await fill(lake, events([1]))
    first = write_manifest(lake, LATER_S)

    assert write_manifest(lake, LATER_S + 1) == first
    await fill(lake, events([1, 2]))
    assert write_manifest(lake, LATER_S + 2).number == 2


async def test_a_state_is_read_by_its_manifest_while_compaction_runs(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))
    made = write_manifest(lake, LATER_S)
    calls = []

    def count_while_compacting(connection: duckdb.DuckDBPyConnection, names: Mapping[str, list[str]]) -> int:
        calls.append(names)
        compact(lake, 0, LATER_S, no_check)
        return count(connection, names)

    assert read(lake, count_while_compacting, manifest=made) == 2
    assert len(calls) == 2


async def test_a_manifest_shows_what_was_there_then(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))
    made = write_manifest(lake, LATER_S)
    await fill(lake, events([1, 2, 3]))
    compact(lake, 0, LATER_S, no_check)

    assert ids(lake, paths_of(lake, made, EVENTS)) == ["e1", "e2"]
    assert ids(lake) == ["e1", "e2", "e3"]


async def test_a_manifest_that_another_process_has_just_made_is_taken(
    lake: LakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(lake, events([1]))
    theirs = write_manifest(lake, LATER_S)
    monkeypatch.setattr(manifests, "newest", lambda _: None)

    assert write_manifest(lake, LATER_S + 1) == theirs


async def test_the_oldest_manifests_go(lake: LakeFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MANIFESTS_KEPT", 2)
    for last in range(1, 5):
        await fill(lake, events(range(1, last + 1)))
        write_manifest(lake, LATER_S)

    assert numbers(lake) == [3, 4]
    with pytest.raises(NotFoundError, match="no manifest 1"):
        read_manifest(lake, 1)


async def test_replaced_files_stay_as_long_as_a_manifest_names_them_and_an_hour(
    lake: LakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MANIFESTS_KEPT", 1)
    await fill(lake, events([1]), events([2]))
    write_manifest(lake, LATER_S)
    compact(lake, 0, LATER_S, no_check)
    first_s, last_s = sorted(found.time_s for found in lake.walk(SUPERSEDED_FOLDER))

    assert remove_superseded(lake, last_s + 2 * SUPERSEDED_KEEP_S) == 0
    write_manifest(lake, LATER_S)
    assert remove_superseded(lake, first_s + SUPERSEDED_KEEP_S) == 0
    assert remove_superseded(lake, last_s + SUPERSEDED_KEEP_S + 1) == 2
    assert lake.walk(SUPERSEDED_FOLDER) == []


async def test_a_manifest_whose_files_are_gone_says_that_it_is_too_old(lake: LakeFiles) -> None:
    await fill(lake, events([1]))
    made = write_manifest(lake, LATER_S)
    expire(lake, 1, LATER_S + 3 * DAY_S)

    with pytest.raises(StateError, match="manifest 1 is too old: 1 of its files are gone"):
        read(lake, count, manifest=made)


async def test_a_damaged_manifest_names_itself(lake: LakeFiles) -> None:
    lake.create("_manifests/0000000001.json", b"{")

    with pytest.raises(StateError, match=r"_manifests/0000000001\.json is damaged"):
        newest(lake)


async def test_days_that_ended_too_long_ago_go_with_what_was_replaced(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]), events([3], hour=24))
    compact(lake, 0, LATER_S, no_check)
    change = f"{FOLDER.replace('events', 'items')}/part-0-1-1.parquet"
    lake.create(change, b"the newest state of an item")
    end_of_next_day_s = (HOUR // 24 + 2) * DAY_S

    assert expire(lake, 0, end_of_next_day_s + 1000 * DAY_S) == 0
    assert expire(lake, 1, end_of_next_day_s - 1) == 0
    assert expire(lake, 1, end_of_next_day_s) == 3
    assert lake.read(change)
    assert ids(lake) == ["e3"]


async def test_half_files_that_a_kill_has_left_go_after_a_day(lake: LakeFiles) -> None:
    await fill(lake, events([1]))
    for path in (f"{FOLDER}/.part-0-1-9.parquet.abc.half", "_manifests/.0000000001.json.abc.half"):
        lake.create(path, b"torn")
    times = [found.time_s for found in lake.walk("") if found.path.endswith(".half")]

    assert remove_halves(lake, min(times) + HALF_KEEP_S) == 0
    assert remove_halves(lake, max(times) + HALF_KEEP_S + 1) == 2
    assert ids(lake) == ["e1"]
