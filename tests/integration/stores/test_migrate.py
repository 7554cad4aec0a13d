"""Migrations: forward, once, under a lock; a changed past is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from ingest.schema import MIGRATIONS
from runtime.errors import StateError
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    async with open_pool(postgres) as opened:
        async with opened.connection() as connection:
            await connection.execute("DROP SCHEMA public CASCADE")
            await connection.execute("CREATE SCHEMA public")
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (a int); INSERT INTO one VALUES (1);")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (a int);")
    return tmp_path


async def test_many_at_once_apply_each_step_once(pool: Pool, folder: Path) -> None:
    applied = await asyncio.gather(*(migrate(pool, folder) for _ in range(6)))

    assert sorted(filter(None, applied)) == [["0001_one", "0002_two"]]
    async with pool.connection() as connection:
        assert await (await connection.execute("SELECT a FROM one")).fetchall() == [(1,)]


async def test_a_later_step_is_applied_alone(pool: Pool, folder: Path) -> None:
    await migrate(pool, folder)
    (folder / "0003_three.sql").write_text("ALTER TABLE two ADD b int")

    assert await migrate(pool, folder) == ["0003_three"]


async def test_a_step_and_the_wait_for_others_have_more_time_than_everyday_statements(
    pool: Pool, tmp_path: Path
) -> None:
    (tmp_path / "0001_slow.sql").write_text(
        "CREATE TABLE t AS SELECT current_setting('statement_timeout') AS bound"
    )

    await migrate(pool, tmp_path)

    async with pool.connection() as connection:
        assert await (await connection.execute("SELECT bound FROM t")).fetchall() == [("1h",)]
        assert await (await connection.execute("SHOW statement_timeout")).fetchall() == [("30s",)]


async def test_a_changed_step_is_refused_by_name(pool: Pool, folder: Path) -> None:
    await migrate(pool, folder)
    (folder / "0001_one.sql").write_text("CREATE TABLE one (a bigint)")

    with pytest.raises(StateError, match="0001_one was changed after it was applied"):
        await migrate(pool, folder)


async def test_a_step_that_fails_leaves_nothing_of_the_run(pool: Pool, folder: Path) -> None:
    (folder / "0003_bad.sql").write_text("INSERT INTO one VALUES ('x')")

    with pytest.raises(psycopg.DataError):
        await migrate(pool, folder)
    async with pool.connection() as connection:
        tables = await connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'")
        assert await tables.fetchall() == []


@pytest.mark.parametrize("name", ["0004_gap.sql", "three.sql"])
async def test_a_wrong_name_is_refused(pool: Pool, folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1")

    with pytest.raises(StateError, match=r"not n(umber|am)ed"):
        await migrate(pool, folder)


async def test_our_migrations_allow_one_active_model(pool: Pool) -> None:
    await migrate(pool, MIGRATIONS)
    insert = "INSERT INTO models VALUES (%s, 'active', now(), now(), '{}', 1, 1, 1, false, '')"

    async with pool.connection() as connection:
        await connection.execute(insert, ("a",))
        with pytest.raises(psycopg.errors.UniqueViolation):
            await connection.execute(insert, ("b",))
