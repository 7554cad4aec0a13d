"""Migrations: forward, once, under a lock; a changed past is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import structlog

from ingest.schema import MIGRATIONS
from runtime import postgres_locks
from runtime.errors import DependencyError, StateError
from runtime.migrate import CONCURRENTLY, migrate
from runtime.postgres import Pool, open_pool

WAIT_S_MAX = 30.0


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


async def test_a_step_that_fails_leaves_nothing_of_itself_and_those_before_it_stay(
    pool: Pool, folder: Path
) -> None:
    (folder / "0003_bad.sql").write_text("CREATE TABLE three (a int); INSERT INTO one VALUES ('x')")

    with pytest.raises(psycopg.DataError):
        await migrate(pool, folder)
    assert await tables_of(pool) == ["one", "schema_migrations", "two"]

    (folder / "0003_bad.sql").write_text("CREATE TABLE three (a int)")
    assert await migrate(pool, folder) == ["0003_bad"]


async def test_a_lock_that_another_holds_is_given_up_soon_and_asked_for_again(
    pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_locks, "LOCK_WAIT_MS_MAX", 50)
    await migrate(pool, folder)
    (folder / "0003_more.sql").write_text("ALTER TABLE one ADD b int")
    async with pool.connection() as other:
        await other.execute("SELECT * FROM one")  # holds a lock of the table until it ends
        task = asyncio.create_task(migrate(pool, folder))
        with structlog.testing.capture_logs() as logs:
            async with asyncio.timeout(WAIT_S_MAX):
                while len(logs) < 2:  # noqa: ASYNC110 -- the log is a list
                    await asyncio.sleep(0.01)
        assert not task.done()

    assert await task == ["0003_more"]


async def test_a_lock_that_never_comes_is_told_with_what_to_do(
    pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_locks, "LOCK_WAIT_MS_MAX", 10)
    monkeypatch.setattr(postgres_locks, "PAUSE_S_MAX", 0.0)
    await migrate(pool, folder)
    (folder / "0003_more.sql").write_text("ALTER TABLE one ADD b int")
    async with pool.connection() as other:
        await other.execute("SELECT * FROM one")

        with pytest.raises(DependencyError, match=r"0003_more .* a transaction holds it .* end that"):
            await migrate(pool, folder)


async def test_a_half_made_index_of_a_killed_run_is_made_again(pool: Pool, folder: Path) -> None:
    await migrate(pool, folder)
    (folder / "0003_index.sql").write_text(
        f"{CONCURRENTLY}CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON one (a);"
    )
    async with pool.connection() as connection:
        await connection.execute("CREATE INDEX i ON one (a)")
        await connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass")

    assert await migrate(pool, folder) == ["0003_index"]

    async with pool.connection() as connection:
        valid = await connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass")
        assert await valid.fetchall() == [(True,)]


async def test_a_step_that_is_not_one_index_made_concurrently_is_refused(pool: Pool, folder: Path) -> None:
    (folder / "0003_index.sql").write_text(f"{CONCURRENTLY}CREATE TABLE three (a int)")

    with pytest.raises(StateError, match="must be one CREATE INDEX CONCURRENTLY"):
        await migrate(pool, folder)


async def test_events_of_before_are_read_with_those_of_now(pool: Pool, tmp_path: Path) -> None:
    steps = sorted(MIGRATIONS.glob("*.sql"))
    for path in steps[:5]:
        (tmp_path / path.name).write_text(path.read_text())
    await migrate(pool, tmp_path)
    await insert_event(pool, "before")

    assert len(await migrate(pool, MIGRATIONS)) == len(steps) - 5
    await insert_event(pool, "after")  # as a process of the version before does, which knows no day

    async with pool.connection() as connection:
        rows = await connection.execute("SELECT event_id, day = '1970-01-01' FROM events ORDER BY 1")
        assert await rows.fetchall() == [("after", False), ("before", True)]


async def insert_event(pool: Pool, event_id: str) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            """INSERT INTO events (event_id, subject, user_id, session_id, item_key, item_id, type, custom_type,
              event_time, accept_time, attribution_token, surface)
            VALUES (%s, 'u:a', 'a', '', 1, 'i', 1, '', now(), now(), '', '') ON CONFLICT DO NOTHING""",
            (event_id,),
        )


async def tables_of(pool: Pool) -> list[str]:
    async with pool.connection() as connection:
        rows = await connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        return [row[0] for row in await rows.fetchall()]


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
