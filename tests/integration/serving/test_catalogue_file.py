"""The catalogue's snapshot: whole or not there, as good as Postgres, of this database, written when that is due."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog
from psycopg.types.json import Jsonb

from runtime.clock import ManualClock
from runtime.errors import StateError
from runtime.postgres import Pool, open_pool
from serving import limits
from serving.catalogue import Catalogue
from serving.catalogue_file import MANIFEST, CatalogueFile, Half, Origin
from serving.catalogue_follower import CatalogueFollower
from tests.integration.serving.conftest import ITEM_COUNT, REPOSITORY, World, insert_items
from tests.unit.serving.items import catalogue_of, item

TOUCH = "changed_xid = pg_current_xact_id()"
ORIGIN = Origin("a database", "10:20:")


@pytest.fixture
async def pool(stocked: World) -> AsyncIterator[Pool]:
    async with open_pool(stocked.settings.postgres_url) as pool:
        yield pool


@pytest.fixture
def file(tmp_path: Path) -> CatalogueFile:
    """In a folder that is not there yet, as before the first model."""
    return CatalogueFile(tmp_path / "models")


class Process:
    """What a serving process keeps of the catalogue: its view, followed."""

    def __init__(self, pool: Pool, file: CatalogueFile) -> None:
        self.view, self.clock = Catalogue(), ManualClock()
        self.follower = CatalogueFollower(self.view, pool, self.clock, file)

    async def look(self) -> Catalogue:
        assert await self.follower.follow()
        return self.view


async def saved(pool: Pool, file: CatalogueFile) -> Catalogue:
    """A view that was followed, and is the snapshot now."""
    process = Process(pool, file)
    view = await process.look()
    await process.follower.save()
    return view


async def view_of(file: CatalogueFile, pool: Pool) -> Catalogue:
    """A view that began with the snapshot alone."""
    async with open_pool(str(pool.conninfo)) as closed:
        pass
    process = Process(closed, file)
    assert not await process.follower.follow()
    assert process.follower.is_stale
    return process.view


def folders(file: CatalogueFile) -> list[str]:
    return [path.name for path in file.path.iterdir() if path.is_dir()]


async def test_start_without_postgres_has_what_postgres_had(
    stocked: World, pool: Pool, file: CatalogueFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CATALOG_BATCH_ROW_COUNT", 7)
    odd = 'line\nbreak \\ "quoted" \u00e9\u2028'
    query = "update items set title = %s, tags = %s, numeric_attributes = %s, deleted = %s where id = %s"
    await stocked.sql(query, odd, [odd], Jsonb({"huge": 1e300, "tiny": -5e-324}), False, "i3")
    await stocked.sql(query, "", [], Jsonb({}), True, "i4")
    await stocked.sql("update items set expire_time = to_timestamp(1.5), available = false where id = 'i5'")
    followed = await saved(pool, file)

    read = await view_of(file, pool)

    assert read.size == followed.size == ITEM_COUNT + 1
    assert read.usable.tolist() == followed.usable.tolist()
    assert [read.id_of(key) for key in range(read.size)] == [followed.id_of(key) for key in range(read.size)]
    assert read.created_s.tolist() == followed.created_s.tolist()
    key = followed.key_of("i3")
    assert key is not None
    assert read.key_of("i4") is None
    assert read.title.value(key) == odd
    assert read.tags.having(odd, read.size)[key]
    assert read.numbers["huge"].view(read.size)[key] == 1e300
    assert read.numbers["tiny"].view(read.size)[key] == -5e-324


async def test_start_with_a_snapshot_asks_postgres_for_what_changed_since_alone(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    await saved(pool, file)
    await stocked.sql(f"update items set title = 'new', {TOUCH} where id = 'i7'")
    await stocked.sql(f"update items set deleted = true, {TOUCH} where id = 'i8'")
    await stocked.sql(
        "update items set title = 'not told' where id = 'i9'"
    )  # no change by what followers ask
    await insert_items(stocked, 1, ITEM_COUNT)

    view = await Process(pool, file).look()

    keys = view.keys_of(["i7", "i8", "i9", f"i{ITEM_COUNT}"]).tolist()
    assert [view.title.value(key) for key in keys] == ["new", "Title 9", f"Title {ITEM_COUNT}"]
    assert view.usable_count == ITEM_COUNT


@pytest.mark.parametrize("stop_after", ["snapshot", "write"])
async def test_start_when_a_transaction_was_open_at_the_snapshot_gets_its_rows(
    stocked: World, pool: Pool, file: CatalogueFile, stop_after: str
) -> None:
    async with pool.connection() as late:
        await late.execute(f"update items set title = 'late', {TOUCH} where id = 'i7'")
        await saved(pool, file)
        if stop_after == "write":
            await stocked.sql(f"update items set title = 'newer', {TOUCH} where id = 'i8'")

    view = await Process(pool, file).look()

    assert view.title.value(int(view.keys_of(["i7"])[0])) == "late"


async def test_start_when_postgres_comes_later_keeps_to_the_snapshot_and_takes_the_changes(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    await saved(pool, file)
    process = Process(pool, file)
    await stocked.sql(f"update items set title = 'new', {TOUCH} where id = 'i7'")
    await stocked.sql("alter table items rename to hidden")  # as if it could not be read
    assert not await process.follower.follow()
    assert process.view.usable_count == ITEM_COUNT
    await stocked.sql("alter table hidden rename to items")

    view = await process.look()

    assert view.title.value(int(view.keys_of(["i7"])[0])) == "new"


async def test_start_when_the_database_was_restored_to_a_time_before_reads_everything(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    await stocked.sql("create table backup as select * from catalogue_snapshots")
    await saved(pool, file)
    # A backup from before the snapshot: the mark is not in it, and what the snapshot has of "i7" never was.
    await stocked.sql("truncate catalogue_snapshots")
    await stocked.sql("insert into catalogue_snapshots select * from backup")
    await stocked.sql("update items set title = 'restored' where id = 'i7'")

    with structlog.testing.capture_logs() as logs:
        view = await Process(pool, file).look()

    assert view.title.value(int(view.keys_of(["i7"])[0])) == "restored"
    assert any("not of this database" in log["event"] for log in logs)


async def test_start_when_the_snapshot_is_of_another_database_reads_everything(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    with file.writing() as half:
        assert half is not None
        half.write(catalogue_of(item(1, id="foreign"), item(500, id="other")).parts())
        half.publish(ORIGIN, "00000000-0000-0000-0000-000000000000", 0.0)

    view = await Process(pool, file).look()

    assert view.key_of("foreign") is None
    assert view.usable_count == ITEM_COUNT
    assert view.size == ITEM_COUNT + 1


async def test_follow_when_the_database_is_another_one_meanwhile_shows_no_mixture(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    process = Process(pool, file)
    await process.look()
    process.follower._origin = Origin("another", "1:1:")
    await stocked.sql("update items set id = id || 'b'")

    view = await process.look()

    assert view.key_of("i7") is None
    assert view.key_of("i7b") is not None
    assert view.usable_count == ITEM_COUNT


async def test_follow_when_the_schema_has_no_markers_yet_follows_and_keeps_no_snapshot(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    await stocked.sql("drop table catalogue_snapshots")

    view = await saved(pool, file)

    assert view.usable_count == ITEM_COUNT
    assert file.read() is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, alter, Path.unlink])
@pytest.mark.parametrize("name", ["0000_flags.npy", "0001_data.npy", MANIFEST])
async def test_start_when_the_snapshot_is_damaged_says_so_and_reads_everything(
    damage: Callable[[Path], None], name: str, pool: Pool, file: CatalogueFile
) -> None:
    await saved(pool, file)
    damage(next(file.path.rglob(name)))
    if (file.path / MANIFEST).exists():
        with pytest.raises(StateError, match="written again while PostgreSQL answers"):
            file.read()

    assert (await view_of(file, pool)).size == 0
    process = Process(pool, file)
    assert (await process.look()).usable_count == ITEM_COUNT
    process.clock.advance(limits.CATALOG_FILE_PERIOD_S)
    await process.look()
    await process.follower.save()
    assert (await view_of(file, pool)).usable_count == ITEM_COUNT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 0}', "\udcff"])
async def test_read_when_the_manifest_is_not_ours_says_so(text: str, pool: Pool, file: CatalogueFile) -> None:
    await saved(pool, file)
    (file.path / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StateError, match="can't be used"):
        file.read()


async def test_read_without_a_snapshot_gives_nothing(pool: Pool, file: CatalogueFile) -> None:
    assert (await view_of(file, pool)).size == 0


async def test_write_when_the_catalogue_is_too_large_keeps_the_snapshot_before_and_leaves_no_half(
    stocked: World, pool: Pool, file: CatalogueFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(pool, file)
    await process.look()
    await process.follower.save()
    before = folders(file), (file.path / MANIFEST).read_bytes()
    monkeypatch.setattr(limits, "CATALOG_FILE_BYTES_MAX", 1)
    await insert_items(stocked, 1, ITEM_COUNT)
    process.clock.advance(limits.CATALOG_FILE_PERIOD_S)
    await process.look()

    with structlog.testing.capture_logs() as logs:
        await process.follower.save()

    assert any("more than 1 bytes" in log.get("error", "") for log in logs)
    assert (folders(file), (file.path / MANIFEST).read_bytes()) == before


async def test_save_is_flushed_and_summed_by_a_thread_that_gives_way_to_requests(
    pool: Pool, file: CatalogueFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies: list[int] = []
    publish = Half.publish

    def seen(half: Half, origin: Origin, marker: str, taken_s: float) -> None:
        policies.append(os.sched_getscheduler(0))  # of the calling thread
        publish(half, origin, marker, taken_s)

    monkeypatch.setattr(Half, "publish", seen)
    await saved(pool, file)
    assert policies == [os.SCHED_IDLE]


async def test_save_writes_what_has_changed_once_a_period(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    process = Process(pool, file)

    async def count_after_save() -> int:
        await process.look()
        await process.follower.save()
        snapshot = file.read()
        return snapshot.catalogue(0.0).usable_count if snapshot else 0

    counts = [await count_after_save()]
    await insert_items(stocked, 1, ITEM_COUNT)
    counts.append(await count_after_save())
    process.clock.advance(limits.CATALOG_FILE_PERIOD_S)
    counts.append(await count_after_save())
    (file.path / MANIFEST).unlink()
    process.clock.advance(limits.CATALOG_FILE_PERIOD_S)
    counts.append(await count_after_save())  # nothing has changed: nothing is written

    assert counts == [ITEM_COUNT, ITEM_COUNT, ITEM_COUNT + 1, 0]


async def test_save_when_another_process_has_just_written_leaves_it_be(
    pool: Pool, file: CatalogueFile
) -> None:
    await saved(pool, file)
    before = folders(file)
    await saved(pool, file)
    assert folders(file) == before


async def test_save_by_many_at_once_leaves_one_whole_snapshot(pool: Pool, file: CatalogueFile) -> None:
    processes = [Process(pool, file) for _ in range(5)]
    for process in processes:
        await process.look()
    await asyncio.gather(*(process.follower.save() for process in processes))

    assert len(folders(file)) == 1
    assert (await view_of(file, pool)).usable_count == ITEM_COUNT


async def test_view_that_began_with_a_snapshot_stays_when_that_is_replaced_and_never_writes_to_it(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    await saved(pool, file)
    first, second = Process(pool, file), Process(pool, file)
    await first.look()
    await stocked.sql(f"update items set title = 'changed', deleted = true, {TOUCH} where id = 'i1'")
    await first.look()
    assert (await view_of(file, pool)).key_of("i1") is not None  # the file has not changed with the view
    await second.look()
    second.clock.advance(limits.CATALOG_FILE_PERIOD_S)
    await second.look()
    await second.follower.save()

    assert len(folders(file)) == 1
    assert first.view.keys_of(["i1", "i2"]).tolist() == [first.view.key_of("i2")]
    assert first.view.title.value(first.view.size - 1) == f"Title {ITEM_COUNT - 1}"


WRITER = """
import sys, time
from pathlib import Path
from serving.catalogue_file import CatalogueFile
from tests.unit.serving.items import catalogue_of, item
with CatalogueFile(Path(sys.argv[1])).writing() as half:
    half.write(catalogue_of(item(1)).parts())
    print("half", flush=True)
    time.sleep(600)
"""


async def test_save_when_a_writer_was_killed_goes_on_and_clears_up_after_it(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    await saved(pool, file)
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen'}"}
    command = [sys.executable, "-c", WRITER, str(file.path.parent)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as writer:  # noqa: ASYNC220 - it starts at once
        assert writer.stdout is not None
        await asyncio.to_thread(writer.stdout.readline)
        with file.writing() as half:
            assert half is None  # the other one has its turn
        writer.send_signal(signal.SIGKILL)
    assert len(folders(file)) == 2
    assert (await view_of(file, pool)).usable_count == ITEM_COUNT
    long_ago_s = time.time() - 2 * limits.CATALOG_FILE_WRITE_S_MAX
    for folder in folders(file):
        os.utime(file.path / folder, (long_ago_s, long_ago_s))

    process = Process(pool, file)
    await process.look()
    await insert_items(stocked, 1, ITEM_COUNT)
    process.clock.advance(limits.CATALOG_FILE_PERIOD_S)
    await process.look()
    await process.follower.save()

    assert len(folders(file)) == 1
    assert (await view_of(file, pool)).usable_count == ITEM_COUNT + 1


async def test_save_when_the_folder_can_t_be_written_is_told_and_goes_on(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with structlog.testing.capture_logs() as logs:
        await saved(pool, CatalogueFile(tmp_path / "models"))

    assert "the catalogue's snapshot can't be written" in [log["event"] for log in logs]
    assert (tmp_path / "models").read_text()


async def test_follow_leaves_the_connection_as_it_came(pool: Pool, file: CatalogueFile) -> None:
    class Broken(Catalogue):
        def apply(self, rows: object, now_s: float) -> None:
            raise TimeoutError("too slow")

    await pool.resize(1, 1)
    assert not await CatalogueFollower(Broken(), pool, ManualClock(), file).follow()

    async with pool.connection() as connection:
        row = await (await connection.execute("show transaction_isolation")).fetchone()
    assert row == ("read committed",)
