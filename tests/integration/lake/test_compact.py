"""Compaction: fewer files, the same events, whatever dies and whoever is paused meanwhile."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from ingest.lake import compact as compacting
from ingest.lake.compact import SETTLE_S, Compacted, compact
from ingest.lake.files import LakeFiles
from ingest.lake.listing import end_of
from ingest.lake.verify import repair, verify
from ingest.sinks.lake import LakeSink
from runtime.errors import StateError
from tests.integration.lake.samples import (
    FOLDER,
    HOUR,
    LATER_S,
    NEXT_FOLDER,
    event,
    events,
    fill,
    ids,
    names,
    no_check,
)


async def test_a_finished_hour_is_one_sorted_file_with_the_same_events(lake: LakeFiles) -> None:
    await fill(lake, events([4, 5]), events([6]), events([7, 8, 9], hour=1))
    before = ids(lake)

    assert compact(lake, 0, LATER_S, no_check) == Compacted(2, 1)

    assert names(lake) == ["part-0-1-2.parquet"]
    assert names(lake, NEXT_FOLDER) == ["part-0-3-3.parquet"]
    assert ids(lake) == before
    assert verify(lake).faults == ()
    assert compact(lake, 0, LATER_S, no_check) == Compacted()


async def test_an_hour_that_has_not_settled_is_left_alone(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))
    ended_s = (HOUR + 1) * 3_600.0

    assert compact(lake, 0, ended_s + SETTLE_S - 1, no_check) == Compacted()
    assert compact(lake, 0, ended_s + SETTLE_S, no_check) == Compacted(2, 1)


async def test_a_partition_s_files_alone_are_compacted(lake: LakeFiles) -> None:
    for partition in (0, 1):
        await fill(lake, events([1]), events([2]), partition=partition)

    compact(lake, 1, LATER_S, no_check)

    assert names(lake) == ["part-0-1-1.parquet", "part-0-2-2.parquet", "part-1-1-2.parquet"]


async def test_the_sink_goes_on_after_what_was_compacted(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))
    compact(lake, 0, LATER_S, no_check)

    await fill(lake, events([1, 2, 3]))

    assert names(lake) == ["part-0-1-2.parquet", "part-0-3-3.parquet"]
    assert ids(lake) == ["e1", "e2", "e3"]


async def test_of_an_event_that_stands_twice_in_its_hour_the_first_stays(lake: LakeFiles) -> None:
    await fill(lake, [event(1), event(2)], [event(3, event_id="e1"), event(4)])

    assert compact(lake, 0, LATER_S, no_check) == Compacted(2, 1, doubles=1)

    with_offsets = pq.read_table(_open(lake, f"{FOLDER}/part-0-1-2.parquet")).to_pylist()
    assert {row["event_id"]: row["stream_offset"] for row in with_offsets} == {
        f"e{number}": event(number).offset for number in (1, 2, 4)
    }
    assert end_of(lake, 0).offset == event(4).offset


async def test_a_kill_between_making_and_moving_shows_each_event_once_and_is_cleared_up(
    lake: LakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(lake, events([1]), events([2]))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(lake), "move", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(lake, 0, LATER_S, no_check)

    assert len(names(lake)) == 3
    assert ids(lake) == ["e1", "e2"]
    assert [fault.path for fault in verify(lake).faults] == [
        f"{FOLDER}/part-0-1-1.parquet",
        f"{FOLDER}/part-0-2-2.parquet",
    ]
    compact(lake, 0, LATER_S, no_check)
    assert names(lake) == ["part-0-1-2.parquet"]
    assert verify(lake).faults == ()


async def test_repair_clears_away_what_a_kill_has_left(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))
    lake.create(f"{FOLDER}/part-0-1-2.parquet", lake.read(f"{FOLDER}/part-0-2-2.parquet"))

    assert repair(lake) == 2
    assert names(lake) == ["part-0-1-2.parquet"]


async def test_a_compaction_whose_lease_is_gone_makes_nothing(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))

    with pytest.raises(StateError):
        compact(lake, 0, LATER_S, _lost)

    assert names(lake) == ["part-0-1-1.parquet", "part-0-2-2.parquet"]


async def test_a_sink_that_was_paused_before_it_made_a_file_leaves_no_double(lake: LakeFiles) -> None:
    paused = await fill(lake, events([1]))
    await fill(lake, events([1, 2]), events([3]))  # its successor, which redelivers what it had
    compact(lake, 0, LATER_S, no_check)

    paused._check = _once_good()
    with pytest.raises(StateError, match="lease"):
        await paused.write(events([2]))

    assert names(lake) == ["part-0-1-3.parquet"]
    assert ids(lake) == ["e1", "e2", "e3"]


async def test_a_sink_that_was_paused_and_killed_after_it_made_a_file_leaves_no_double(
    lake: LakeFiles,
) -> None:
    paused = await fill(lake, events([1]))
    await fill(lake, events([1, 2]), events([3]))
    compact(lake, 0, LATER_S, no_check)

    await paused.write(events([2]))  # it never learns that the partition has gone

    assert ids(lake) == ["e1", "e2", "e3"]
    compact(lake, 0, LATER_S, no_check)
    assert names(lake) == ["part-0-1-3.parquet"]


async def test_a_sink_that_was_paused_before_a_number_that_its_successor_made_is_refused(
    lake: LakeFiles,
) -> None:
    paused: LakeSink = await fill(lake, events([1]))
    await fill(lake, events([1, 2]))

    with pytest.raises(StateError, match="another process writes this partition"):
        await paused.write(events([2]))


async def test_an_hour_too_large_for_one_file_is_compacted_by_blocks_of_numbers(
    lake: LakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "BLOCK_FILES", 2)
    monkeypatch.setattr(compacting, "COMPACT_BYTES_MAX", 10)
    await fill(lake, *([each] for each in events(range(1, 6))), events([6], hour=1))

    compact(lake, 0, LATER_S, no_check)

    assert names(lake) == ["part-0-1-2.parquet", "part-0-3-4.parquet", "part-0-5-5.parquet"]


async def test_what_two_compactions_at_once_make_holds_one_another(
    lake: LakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(lake, events([1]), events([2]))
    create = type(lake).create

    def pause_then_create(self: LakeFiles, path: str, data: bytes) -> None:
        monkeypatch.setattr(type(lake), "create", create)
        sink = LakeSink(lake, 0, no_check)
        sink._write(events([3, 4]))
        sink._write(events([5], hour=1))
        compact(lake, 0, LATER_S, no_check)
        create(self, path, data)  # type: ignore[arg-type]  # of either kind

    monkeypatch.setattr(type(lake), "create", pause_then_create)
    compact(lake, 0, LATER_S, no_check)

    assert names(lake) == ["part-0-1-3.parquet"]
    assert ids(lake) == ["e1", "e2", "e3", "e4", "e5"]


async def test_a_damaged_file_keeps_its_hour_as_it_is_and_no_other(lake: LakeFiles) -> None:
    await fill(lake, *([each] for each in events([1, 2])), *([each] for each in events([3, 4], hour=1)))
    torn = f"{NEXT_FOLDER}/part-0-4-4.parquet"
    lake.remove(torn)
    lake.create(torn, b"PAR1 torn")

    done = compact(lake, 0, LATER_S, no_check)

    assert done == Compacted(2, 1, damaged=(f"{NEXT_FOLDER}/part-0-3-3.parquet",))
    assert names(lake) == ["part-0-1-2.parquet"]


async def test_numbers_across_a_gap_are_not_put_together(lake: LakeFiles) -> None:
    await fill(lake, *([each] for each in events(range(1, 6))))
    lake.remove(f"{FOLDER}/part-0-3-3.parquet")

    compact(lake, 0, LATER_S, no_check)

    assert names(lake) == ["part-0-1-2.parquet", "part-0-4-5.parquet"]
    [fault] = verify(lake).faults
    assert "a file is missing" in fault.message


def _open(lake: LakeFiles, path: str) -> object:
    import io

    return io.BytesIO(lake.read(path))


def _lost() -> None:
    from ingest.stream import lease_lost

    raise lease_lost(0, "lake")


def _once_good() -> object:
    answers = iter([None])

    def check() -> None:
        for _ in answers:
            return
        _lost()

    return check
