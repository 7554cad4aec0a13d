"""What became of items and users: one row a change, none where nothing changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from reco.ingest.v1.item_pb2 import Item
from reco.ingest.v1.user_pb2 import User

from ingest import limits
from ingest.catalogue import delete_items, upsert_items, upsert_users
from ingest.change_history import forget_exported, item_history
from ingest.lake.changes import ChangesExport
from ingest.lake.files import LocalLake
from ingest.lake.names import ITEMS, USERS
from runtime.postgres import Pool

ITEM_CHANGES = "SELECT key, id, item->>'title', (item->>'deleted')::bool FROM item_changes ORDER BY number"


async def rows(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def test_an_item_s_history_is_its_rows_after_each_change(pool: Pool) -> None:
    await upsert_items(pool, [Item(id="a", title="one"), Item(id="b", title="b")])
    await upsert_items(pool, [Item(id="a", title="two")])
    await upsert_items(pool, [Item(id="c", title="c")])
    await delete_items(pool, ["a"])

    assert await rows(pool, ITEM_CHANGES) == [
        (1, "a", "one", False),
        (2, "b", "b", False),
        (1, "a", "two", False),
        (3, "c", "c", False),
        (1, "a", "two", True),
    ]  # fmt: skip


async def test_an_item_told_again_unchanged_makes_no_history(pool: Pool) -> None:
    for _ in range(3):
        await upsert_items(pool, [Item(id="a", title="one", numeric_attributes={"price": 2.5})])
    await delete_items(pool, ["nobody"])

    assert len(await rows(pool, ITEM_CHANGES)) == 1


async def test_a_change_knows_the_transaction_that_made_it_and_a_row_holds_every_column(pool: Pool) -> None:
    await upsert_items(pool, [Item(id="a", title="one")])

    [(same, columns)] = await rows(
        pool,
        """SELECT xid = changed_xid, (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(item) k)
          FROM item_changes JOIN items USING (id)""",
    )
    named = await rows(
        pool, "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'items'"
    )
    assert same
    assert columns == sorted({name for (name,) in named} - {"changed_xid"})


async def test_a_user_s_history_ends_with_a_removal(pool: Pool) -> None:
    await upsert_users(pool, [User(id="u", string_attributes={"plan": "free"})])
    await upsert_users(pool, [User(id="u", string_attributes={"plan": "paid"})])
    await upsert_users(pool, [User(id="u", string_attributes={"plan": "paid"})])
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM users WHERE id = 'u'")

    query = "SELECT account->'string_attributes'->>'plan' FROM user_changes WHERE id = 'u' ORDER BY number"
    assert await rows(pool, query) == [("free",), ("paid",), (None,)]


async def test_an_item_s_history_tells_what_each_version_changed(pool: Pool) -> None:
    await upsert_items(pool, [Item(id="a", title="one", tags=["x"])])
    await upsert_items(pool, [Item(id="b", title="other")])
    await upsert_items(pool, [Item(id="a", title="two", tags=["x", "y"])])
    await delete_items(pool, ["a"])

    found = await item_history(pool, "a", 2)

    assert [version.changes for version in found] == [
        {"deleted": (False, True)},
        {"tags": (["x"], ["x", "y"]), "title": ("one", "two")},
    ]
    [_, _, oldest] = await item_history(pool, "a", 10)
    assert oldest.before is None
    assert oldest.changes["title"] == (None, "one")
    assert await item_history(pool, "nobody", 10) == []


async def test_changes_leave_postgres_when_the_lake_has_had_them_for_long(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANGES_ROWS_MAX", 2)
    files, later_s = LocalLake(tmp_path), time.time() + (limits.CHANGES_KEEP_DAYS + 1) * 86_400
    await upsert_items(pool, [Item(id=f"i{i}", title="one") for i in range(5)])
    await upsert_users(pool, [User(id="u")])
    counts = [await forget_exported(pool, files, later_s)]  # the lake has none

    for kind in (ITEMS, USERS):
        await ChangesExport(files, kind, lambda: None).export(pool)
    await upsert_items(pool, [Item(id="i1", title="two")])
    counts += [await forget_exported(pool, files, time.time()), await forget_exported(pool, files, later_s)]

    assert counts == [0, 0, 6]
    assert await rows(pool, "SELECT id, item->>'title' FROM item_changes") == [("i1", "two")]
    assert await rows(pool, "SELECT FROM user_changes") == []


async def test_another_database_s_lake_lets_nothing_go(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, later_s = LocalLake(tmp_path), time.time() + (limits.CHANGES_KEEP_DAYS + 1) * 86_400
    await upsert_items(pool, [Item(id="a", title="one")])
    await ChangesExport(files, ITEMS, lambda: None).export(pool)
    monkeypatch.setattr("ingest.change_history._DATABASE", "SELECT 'another'")

    assert await forget_exported(pool, files, later_s) == 0
