"""Changes of items and users reach the lake, each once, in the order of their transactions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ingest.lake import changes
from ingest.lake.changes import ChangesExport
from ingest.lake.compact import compact
from ingest.lake.files import LakeFiles
from ingest.lake.listing import End, end_of, parts_of, readable
from ingest.lake.names import ITEMS, USERS
from ingest.lake.query import connect
from ingest.lake.verify import verify
from runtime.errors import StateError
from runtime.postgres import Pool
from tests.integration.lake.samples import no_check

A_DAY_LATER_S = 86_400.0
Connection = psycopg.Connection[tuple[object, ...]]
NEW_ITEMS = """INSERT INTO items (id, title, categories, tags, numeric_attributes, string_attributes, create_time, available,
  media_url) SELECT id, 'Item ' || id, '{}', '{}', '{}', '{}', now(), true, '' FROM unnest(%s::text[]) id"""
NEW_USER = "INSERT INTO users (id, numeric_attributes, string_attributes, create_time) VALUES (%s, '{}', '{}', now())"


@pytest.fixture
def database(postgres: str, pool: Pool) -> Iterator[Connection]:
    """A connection to a migrated database without items and users."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


def add_items(connection: Connection, *ids: str) -> None:
    """Each in a transaction of its own."""
    for each in ids:
        connection.execute(NEW_ITEMS, [[each]])


def told(lake: LakeFiles, kind: str = ITEMS) -> list[tuple[Any, ...]]:
    """number, id and the JSON of each change, by number."""
    column = {ITEMS: "item", USERS: "account"}[kind]
    with connect(lake, {kind: readable(lake, kind)}) as connection:
        return connection.execute(f"SELECT number, id, {column} FROM {kind} ORDER BY number").fetchall()


async def test_changes_are_exported_once_in_their_order(
    lake: LakeFiles, pool: Pool, database: Connection
) -> None:
    export = ChangesExport(lake, ITEMS, no_check)
    add_items(database, "b", "a")
    counts = [await export.export(pool), await export.export(pool)]
    database.execute("UPDATE items SET title = 'new', deleted = true WHERE id = 'a'")
    counts += [await export.export(pool), await ChangesExport(lake, ITEMS, no_check).export(pool)]

    assert counts == [2, 0, 1, 0]
    rows = told(lake)
    assert [(number, each, json.loads(item)["title"]) for number, each, item in rows] == [
        (1, "b", "Item b"),
        (2, "a", "Item a"),
        (3, "a", "new"),
    ]
    assert verify(lake).faults == ()


async def test_a_removed_user_s_change_has_no_account(
    lake: LakeFiles, pool: Pool, database: Connection
) -> None:
    database.execute(NEW_USER, ["u"])
    database.execute("DELETE FROM users")

    assert await ChangesExport(lake, USERS, no_check).export(pool) == 2

    assert [(row[1], row[2] is None) for row in told(lake, USERS)] == [("u", False), ("u", True)]


async def test_a_change_that_commits_late_is_not_passed_over(
    lake: LakeFiles, pool: Pool, database: Connection, postgres: str
) -> None:
    export = ChangesExport(lake, ITEMS, no_check)
    with psycopg.connect(postgres) as slow:
        slow.execute(NEW_ITEMS, [["slow"]])
        add_items(database, "quick")
        before = await export.export(pool)
        slow.commit()

    assert before == 0  # what is younger waits for it
    assert await export.export(pool) == 2
    assert [row[1] for row in told(lake)] == ["slow", "quick"]


async def test_a_kill_after_the_file_was_made_exports_nothing_twice(
    lake: LakeFiles, pool: Pool, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_items(database, "a")
    create = type(lake).create

    def killed(self: LakeFiles, path: str, data: bytes) -> None:
        create(self, path, data)  # type: ignore[arg-type]  # of either kind
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(lake), "create", killed)
        with pytest.raises(KeyboardInterrupt):
            await ChangesExport(lake, ITEMS, no_check).export(pool)
    add_items(database, "b")

    assert await ChangesExport(lake, ITEMS, no_check).export(pool) == 1
    assert [row[1] for row in told(lake)] == ["a", "b"]


async def test_of_two_exporters_at_once_one_is_refused(
    lake: LakeFiles, pool: Pool, database: Connection
) -> None:
    paused, successor = (ChangesExport(lake, ITEMS, no_check) for _ in range(2))
    for export in (paused, successor):
        assert await export.export(pool) == 0
        export._end = End()
    add_items(database, "a")
    assert await successor.export(pool) == 1
    add_items(database, "b")

    with pytest.raises(StateError, match="already"):
        await paused.export(pool)

    assert await paused.export(pool) == 1
    assert [row[1] for row in told(lake)] == ["a", "b"]


async def test_a_file_holds_whole_transactions_however_large(
    lake: LakeFiles,
    pool: Pool,
    database: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "ROWS_MAX", 3)
    add_items(database, "a", "b")
    database.execute(NEW_ITEMS, [[f"x{number}" for number in range(5)]])
    add_items(database, "c")

    assert await ChangesExport(lake, ITEMS, no_check).export(pool) == 8

    assert [row[0] for row in told(lake)] == list(range(1, 9))
    assert len(parts_of(lake, ITEMS)) == 3


async def test_another_database_s_changes_are_all_exported(
    lake: LakeFiles, pool: Pool, database: Connection
) -> None:
    add_items(database, "a")
    await ChangesExport(lake, ITEMS, no_check).export(pool)
    export = ChangesExport(lake, ITEMS, no_check)
    end = end_of(lake, 0, ITEMS)
    export._end = End(end.number, end.offset + 1_000_000, end.folder, "another")

    assert await export.export(pool) == 1


async def test_exported_files_are_compacted_and_the_export_goes_on(
    lake: LakeFiles, pool: Pool, database: Connection
) -> None:
    export = ChangesExport(lake, ITEMS, no_check)
    for each in ("a", "b"):
        add_items(database, each)
        await export.export(pool)
    [[now_s]] = database.execute("SELECT extract(epoch FROM now())::float8").fetchall()

    done = await asyncio.to_thread(compact, lake, 0, float(str(now_s)) + A_DAY_LATER_S, no_check, ITEMS)
    add_items(database, "c")

    assert (done.files_before, done.files_after) == (2, 1)
    assert await ChangesExport(lake, ITEMS, no_check).export(pool) == 1
    assert [row[1] for row in told(lake)] == ["a", "b", "c"]
