"""The lake's files: each made once, whole or not at all, in a folder and in an object store alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.lake.files import LakeFiles, LocalLake, ObjectLake, ThereAlreadyError, open_lake
from runtime.errors import DependencyError, StateError
from runtime.settings import SettingsError, load_settings

HOUR = "kind=events/date=2026-11-23/hour=09"
RACERS, RACES = 8, 20


def test_what_is_created_is_listed_and_read(lake: LakeFiles) -> None:
    lake.create(f"{HOUR}/b", b"data")
    lake.create(f"{HOUR}/a", b"more")

    assert lake.list(HOUR) == ["a", "b"]
    assert lake.list("kind=events") == ["date=2026-11-23"]
    assert lake.read(f"{HOUR}/b") == b"data"
    assert [found[:2] for found in lake.walk("kind=events")] == [(f"{HOUR}/a", 4), (f"{HOUR}/b", 4)]


def test_the_end_of_a_file_is_read_alone_and_of_a_small_one_all(lake: LakeFiles) -> None:
    lake.create("x", b"0123456789")

    assert [lake.read_end("x", count) for count in (3, 10, 99)] == [b"789", b"0123456789", b"0123456789"]


def test_a_name_that_is_taken_is_refused_and_the_file_stays(lake: LakeFiles) -> None:
    lake.create("x", b"first")

    with pytest.raises(ThereAlreadyError, match="has x already"):
        lake.create("x", b"second")

    assert lake.read("x") == b"first"


def test_of_many_who_create_a_name_at_once_one_succeeds(lake: LakeFiles, url: str, tmp_path: Path) -> None:
    others = [open_lake(url, tmp_path) for _ in range(RACERS)]

    def create(number: int) -> bool:
        try:
            others[number % RACERS].create(f"races/{number // RACERS}", b"%d" % (number % RACERS))
        except ThereAlreadyError:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(create, range(RACERS * RACES)))

    for race in range(RACES):
        winners = [racer for racer in range(RACERS) if won[race * RACERS + racer]]
        assert [b"%d" % winner for winner in winners] == [lake.read(f"races/{race}")]


def test_what_is_not_there_is_empty_cannot_be_read_and_stays_away(lake: LakeFiles) -> None:
    assert lake.list("nothing") == []
    assert lake.walk("nothing") == []
    lake.move("nothing", "something")
    lake.remove("nothing")
    assert lake.list("") == []
    for read in (lake.read, lambda path: lake.read_end(path, 9)):
        with pytest.raises(FileNotFoundError):
            read("nothing")


def test_a_moved_file_is_in_its_new_place_alone_and_its_time_is_that_of_the_move(lake: LakeFiles) -> None:
    lake.create("a/x", b"data")
    made_s = lake.walk("")[0].time_s

    lake.move("a/x", "b/c/x")
    lake.create("a/x", b"another")
    lake.move("a/x", "b/c/x")

    [found] = lake.walk("")
    assert lake.read(found.path) == b"another"
    assert found.path == "b/c/x"
    assert found.time_s >= made_s


def test_removed_files_are_gone(lake: LakeFiles) -> None:
    for name in "xyz":
        lake.create(name, b"data")
    lake.remove("x", "never there", "z")
    lake.remove()

    assert [found.path for found in lake.walk("")] == ["y"]


def test_a_file_that_is_made_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = LocalLake(tmp_path)

    def torn(path: Path, data: bytes) -> None:
        path.write_bytes(data[:2])
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr(lake, "write_synced", torn)
    with pytest.raises(DependencyError, match="lake does not answer"):
        lake.create("a/x", b"data")

    assert lake.walk("") == []


def test_a_lake_out_of_reach_says_so(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where the lake should be")

    with pytest.raises(DependencyError, match="lake does not answer"):
        LocalLake(tmp_path / "lake").create("kind=events/x", b"")


def test_an_object_store_out_of_reach_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("ingest.lake.objects.OBJECT_TRIES_MAX", 0)

    with pytest.raises(DependencyError, match="lake does not answer"):
        open_lake("s3://lake", tmp_path).list("")


def test_the_settings_choose_the_kind_of_lake(tmp_path: Path) -> None:
    open_lake("", tmp_path).create("x", b"1")
    open_lake(f"file://{tmp_path}/elsewhere", tmp_path).create("y", b"2")

    assert (tmp_path / "lake" / "x").exists()
    assert (tmp_path / "elsewhere" / "y").exists()
    assert isinstance(open_lake("s3://bucket/path", tmp_path), ObjectLake)


@pytest.mark.parametrize("url", ["ftp://host/path", "file://host/path", "s3://", "s3:///path"])
def test_settings_that_name_no_lake_do_not_start(url: str) -> None:
    with pytest.raises(SettingsError, match="RECO_LAKE_URL"):
        load_settings(lake_url=url, _env_file=None)


def test_a_lake_that_forgets_before_postgres_does_not_start() -> None:
    load_settings(lake_keep_days=91, postgres_event_days=90, _env_file=None)
    with pytest.raises(SettingsError, match=r"RECO_LAKE_KEEP_DAYS: .* must exceed RECO_POSTGRES_EVENT_DAYS"):
        load_settings(lake_keep_days=90, postgres_event_days=90, _env_file=None)


def test_a_url_that_nothing_speaks_says_which(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="RECO_LAKE_URL ftp://host can't be used"):
        open_lake("ftp://host", tmp_path)
