"""The catalogue's file: whole or not there, as good as Postgres, written when that is due."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from runtime.clock import ManualClock
from runtime.errors import StateError
from runtime.postgres import Pool, open_pool
from serving import limits
from serving.catalogue import Catalogue
from serving.catalogue_file import FILE, CatalogueFile
from serving.catalogue_follower import CatalogueFollower
from tests.integration.serving.conftest import ITEM_COUNT, World, insert_items


@pytest.fixture
async def pool(stocked: World) -> AsyncIterator[Pool]:
    async with open_pool(stocked.settings.postgres_url) as pool:
        yield pool


@pytest.fixture
def file(tmp_path: Path) -> CatalogueFile:
    """In a folder that is not there yet, as before the first model."""
    return CatalogueFile(tmp_path / "models")


async def view_of(file: CatalogueFile, pool: Pool) -> Catalogue:
    """A view that began with the file alone."""
    catalogue = Catalogue()
    async with open_pool(str(pool.conninfo)) as closed:
        pass
    follower = CatalogueFollower(catalogue, closed, ManualClock(), file)
    assert not await follower.follow()
    assert follower.is_stale
    return catalogue


async def test_read_gives_what_postgres_has(
    stocked: World, pool: Pool, file: CatalogueFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CATALOG_BATCH_ROW_COUNT", 7)
    odd = 'line\nbreak \\ "quoted" \u00e9\u2028'
    query = "update items set title = %s, tags = %s, numeric_attributes = %s, deleted = %s where id = %s"
    await stocked.sql(query, odd, [odd], Jsonb({"huge": 1e300, "tiny": -5e-324}), False, "i3")
    await stocked.sql(query, "", [], Jsonb({}), True, "i4")
    await stocked.sql("update items set expire_time = to_timestamp(1.5), available = false where id = 'i5'")
    followed = Catalogue()
    await CatalogueFollower(followed, pool, ManualClock(), file).follow()
    await file.write(pool)

    read = await view_of(file, pool)

    assert read.size == followed.size == ITEM_COUNT + 1
    assert read.usable.tolist() == followed.usable.tolist()
    assert [read.id_of(key) for key in range(read.size)] == [followed.id_of(key) for key in range(read.size)]
    assert read.created_s.tolist() == followed.created_s.tolist()
    key = followed.key_of("i3")
    assert key is not None
    assert read.title.words.texts[read.title.codes[key]] == odd
    assert read.tags.having(odd, read.size)[key]
    assert read.numbers["huge"].view(read.size)[key] == 1e300
    assert read.numbers["tiny"].view(read.size)[key] == -5e-324


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: data[:60] + b"\0\0\0" + data[63:], lambda _: b"x", lambda _: b""],
)
async def test_read_when_the_file_is_damaged_says_so_before_anything_is_taken_over(
    damage: Callable[[bytes], bytes], pool: Pool, file: CatalogueFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CATALOG_BATCH_ROW_COUNT", 1)
    await file.write(pool)
    file.path.write_bytes(damage(file.path.read_bytes()))

    with pytest.raises(StateError, match="remove it"):
        await anext(file.read())
    assert (await view_of(file, pool)).size == 0


async def test_read_without_a_file_gives_nothing(pool: Pool, file: CatalogueFile) -> None:
    assert (await view_of(file, pool)).size == 0


async def test_write_when_the_catalogue_is_too_large_keeps_the_file_before_and_leaves_no_half(
    pool: Pool, file: CatalogueFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file.write(pool)
    before = file.path.read_bytes()
    monkeypatch.setattr(limits, "CATALOG_FILE_BYTES_MAX", 1)

    with pytest.raises(StateError, match="more than 1 bytes"):
        await file.write(pool)

    assert file.path.read_bytes() == before
    assert [path.name for path in file.path.parent.glob(".*")] == [FILE]


async def test_save_writes_what_has_changed_once_a_period(
    stocked: World, pool: Pool, file: CatalogueFile
) -> None:
    clock = ManualClock()
    follower = CatalogueFollower(Catalogue(), pool, clock, file)

    async def count_after_save() -> int:
        await follower.follow()
        await follower.save()
        return sum([len(rows) async for rows in file.read()])

    counts = [await count_after_save()]
    await insert_items(stocked, 1, ITEM_COUNT)
    counts.append(await count_after_save())
    clock.advance(limits.CATALOG_FILE_PERIOD_S)
    counts.append(await count_after_save())
    file.path.unlink()
    clock.advance(limits.CATALOG_FILE_PERIOD_S)
    counts.append(await count_after_save())  # nothing has changed: nothing is written

    assert counts == [ITEM_COUNT, ITEM_COUNT, ITEM_COUNT + 1, 0]


async def test_save_when_the_folder_can_t_be_written_is_told_and_goes_on(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    follower = CatalogueFollower(Catalogue(), pool, ManualClock(), CatalogueFile(tmp_path / "models"))

    assert await follower.follow()
    await follower.save()

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
