"""What the lake holds and where a partition ends, also while it changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ingest.lake.files import Files, LakeFiles
from ingest.lake.listing import end_of, parts_of, readable
from ingest.lake.names import Part, superseded
from runtime.errors import StateError
from tests.integration.lake.samples import FOLDER, NEXT_FOLDER, event, events, fill


async def test_a_partition_ends_with_its_newest_file(lake: LakeFiles) -> None:
    await fill(lake, events([1, 2]), events([3, 4], hour=1))
    await fill(lake, events([9]), partition=10)

    assert [end_of(lake, partition).number for partition in (0, 10, 1)] == [2, 1, 0]
    assert [end_of(lake, partition).offset for partition in (0, 10, 1)] == [
        event(4, hour=1).offset,
        event(9).offset,
        0,
    ]


async def test_end_of_removes_half_files_of_its_partition_alone(lake: LakeFiles) -> None:
    await fill(lake, events([1]))
    halves = [f"{NEXT_FOLDER}/.part-{partition}-2-2.parquet.abc.half" for partition in (0, 1)]
    for path in halves:
        lake.create(path, b"torn")

    assert end_of(lake, 0).number == 1
    assert lake.list(NEXT_FOLDER) == [halves[1].rpartition("/")[2]]


async def test_what_others_have_put_there_is_read_but_is_no_part(lake: LakeFiles) -> None:
    await fill(lake, events([1]))
    for path in ("kind=events/readme", "kind=events/date=2027-01-01/readme", f"{FOLDER}/theirs.parquet", f"{FOLDER}/_x.parquet"):  # fmt: skip
        lake.create(path, b"")

    assert end_of(lake, 0).number == 1
    assert list(parts_of(lake)) == [Part(FOLDER, 0, 1, 1)]
    assert readable(lake) == [f"{FOLDER}/part-0-1-1.parquet", f"{FOLDER}/theirs.parquet"]


async def test_what_a_compacted_file_replaces_is_left_out(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]), events([3]))
    lake.create(f"{FOLDER}/part-0-1-2.parquet", lake.read(f"{FOLDER}/part-0-1-1.parquet"))

    assert readable(lake) == [f"{FOLDER}/part-0-1-2.parquet", f"{FOLDER}/part-0-3-3.parquet"]


async def test_a_damaged_newest_file_names_itself(lake: LakeFiles) -> None:
    lake.create(f"{FOLDER}/part-0-1-1.parquet", b"PAR1 torn")

    with pytest.raises(StateError, match=r"part-0-1-1\.parquet is damaged"):
        end_of(lake, 0)


class Slow:
    """A store that lists in pages: between the first look at a kind and its end, something happens."""

    def __init__(self, files: LakeFiles, meanwhile: Callable[[Files], Files]) -> None:
        self._files = files
        self._meanwhile: Callable[[Files], Files] | None = meanwhile

    def __getattr__(self, name: str) -> object:
        return getattr(self._files, name)

    def walk(self, folder: str) -> Files:
        found = self._files.walk(folder)
        if self._meanwhile and folder == "kind=events":
            meanwhile, self._meanwhile = self._meanwhile, None
            return meanwhile(found)
        return found


async def test_a_look_that_compaction_passes_by_sees_each_event_once(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]))

    def compacted(found: Files) -> Files:
        lake.create(f"{FOLDER}/part-0-1-2.parquet", lake.read(found[0].path))
        for each in found:
            lake.move(each.path, superseded(each.path))
        return []  # the page was made before the new file, and read after the old ones had gone

    assert readable(Slow(lake, compacted)) == [f"{FOLDER}/part-0-1-2.parquet"]  # type: ignore[arg-type]  # it hands on


async def test_a_look_that_the_sink_passes_by_has_no_gap(lake: LakeFiles) -> None:
    await fill(lake, events([1]), events([2]), events([3]))

    found = readable(Slow(lake, lambda found: [found[0], found[2]]))  # type: ignore[arg-type]  # it hands on

    assert len(found) == 3
