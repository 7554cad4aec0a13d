"""Migrations while others write and read: nobody fails, waits long or misses a row, and a run that is killed is gone on with."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from psycopg import AsyncConnection

from ingest.schema import MIGRATIONS
from runtime import postgres_locks
from runtime.migrate import migrate
from runtime.postgres import Pool, open_pool

REPOSITORY = Path(__file__).parents[3]
STEPS = sorted(MIGRATIONS.glob("*.sql"))
BEFORE_PARTITIONS = 5
FIRST_ROWS = 20_000
WRITERS = 3
BATCH_ROWS = 50
WAIT_S_MAX = 60.0
CALLER_WAIT_MS_MAX = 10_000  # of a writer's or reader's statement: a fraction of what the pool gives them

# As the sink of the version before writes, which knows no day.
INSERT = """
INSERT INTO events (event_id, subject, user_id, session_id, item_key, item_id, type, custom_type, event_time,
  accept_time, attribution_token, surface)
SELECT %s || n, 'u:' || mod(n, 7), 'u', '', mod(n, 10), 'i', 1, '', now(), now(), '', '' FROM generate_series(1, %s) n
ON CONFLICT DO NOTHING
"""
# Columns by name, as ours all do: a prepared `SELECT *` fails when a column comes.
RECENT = (
    "SELECT item_key, type FROM events WHERE accept_time > now() - interval '1 second' AND subject = 'u:1'"
)
MIGRATE = """
import asyncio, sys
from pathlib import Path
from runtime.migrate import migrate
from runtime.postgres import open_pool
async def main():
    async with open_pool(sys.argv[1]) as pool:
        await migrate(pool, Path(sys.argv[2]))
asyncio.run(main())
"""


@pytest.fixture
async def pool(postgres: str, tmp_path: Path) -> AsyncIterator[Pool]:
    """A database as the version before left it, with events."""
    async with open_pool(postgres) as opened:
        async with opened.connection() as connection:
            await connection.execute("DROP SCHEMA public CASCADE")
            await connection.execute("CREATE SCHEMA public")
        await migrate(opened, copied(tmp_path, STEPS[:BEFORE_PARTITIONS]))
        async with opened.connection() as connection:
            await connection.execute(INSERT, ("first-", FIRST_ROWS))
        yield opened


def copied(folder: Path, steps: Sequence[Path]) -> Path:
    for path in steps:
        (folder / path.name).write_text(path.read_text())
    return folder


class Load:
    """Callers who write and read without a pause. What one of them meets is raised at the end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = False
        self.written = FIRST_ROWS
        self.turns = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for number in range(WRITERS):
                tasks.create_task(self._write(f"w{number}-"))
            tasks.create_task(self._read())
            yield
            await self.goes_on()  # what came last is met by the callers, too
            self._stop = True

    async def goes_on(self) -> None:
        """Returns when each caller has come around, more than once on average."""
        until = self.turns + 2 * (WRITERS + 1)
        async with asyncio.timeout(WAIT_S_MAX):
            while self.turns < until:  # noqa: ASYNC110 -- callers don't tell
                await asyncio.sleep(0.01)

    async def _write(self, name: str) -> None:
        turn = 0
        async with self._connection() as connection:
            while not self._stop:
                turn += 1
                await connection.execute(INSERT, (f"{name}{turn}-", BATCH_ROWS))
                self.written += BATCH_ROWS
                self.turns += 1

    async def _read(self) -> None:
        async with self._connection() as connection:
            while not self._stop:
                before = self.written
                row = await (await connection.execute("SELECT count(*) FROM events")).fetchone()
                assert row is not None
                assert row[0] >= before
                await connection.execute(RECENT)
                self.turns += 1

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        options = f"-c statement_timeout={CALLER_WAIT_MS_MAX}"
        async with await psycopg.AsyncConnection.connect(
            self._url, options=options, autocommit=True
        ) as connection:
            yield connection


async def test_a_step_waits_for_a_long_transaction_and_callers_do_not_wait_for_the_step(
    pool: Pool, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_locks, "LOCK_WAIT_MS_MAX", 200)
    load = Load(postgres)
    async with load.running():
        async with pool.connection() as long:
            await long.execute("SELECT count(*) FROM events")  # and holds its lock on
            with structlog.testing.capture_logs() as logs:
                task = asyncio.create_task(migrate(pool, MIGRATIONS))
                async with asyncio.timeout(WAIT_S_MAX):
                    while len(logs) < 3:  # noqa: ASYNC110 -- the log is a list
                        await asyncio.sleep(0.01)
                await load.goes_on()
            assert not task.done()
        applied = await task

    assert applied == [path.stem for path in STEPS[BEFORE_PARTITIONS:]]
    assert {log["what"] for log in logs} == {"0006_events_place"}
    assert await counts(pool) == (load.written, load.written)


@pytest.mark.parametrize("applied", [BEFORE_PARTITIONS, 7, 9], ids=["a column", "an index", "the swap"])
@pytest.mark.parametrize("end", ["killed", "its session ended"])
async def test_a_run_that_ends_in_the_middle_is_gone_on_with_under_load(
    pool: Pool, postgres: str, tmp_path: Path, applied: int, end: str
) -> None:
    await migrate(pool, copied(tmp_path, STEPS[:applied]))
    load = Load(postgres)
    async with load.running():
        async with pool.connection() as long:
            await long.execute(INSERT, ("long-", 1))
            process = await started(postgres)
            try:
                await blocked(pool)
                if end == "killed":
                    process.send_signal(signal.SIGKILL)
                else:
                    await terminate_blocked(pool)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            await load.goes_on()
        rest = await migrate(pool, MIGRATIONS)

    # What the killed one's session was at may have been finished by the server.
    assert rest in ([path.stem for path in STEPS[applied:]], [path.stem for path in STEPS[applied + 1 :]])
    assert await counts(pool) == (load.written + 1, load.written + 1)
    async with pool.connection() as connection:
        query = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"
        assert await (await connection.execute(query)).fetchall() == []


async def started(url: str) -> asyncio.subprocess.Process:
    """A process that migrates."""
    arguments = ("-c", MIGRATE, url, str(MIGRATIONS))
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=REPOSITORY, env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen'}"},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


BLOCKED = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
  AND (query LIKE '%ALTER TABLE%' OR query LIKE '%CREATE UNIQUE INDEX%')
"""


async def blocked(pool: Pool) -> None:
    """Returns when a migration waits for a lock."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not await rows(pool, BLOCKED):  # noqa: ASYNC110 -- Postgres knows
            await asyncio.sleep(0.01)


async def terminate_blocked(pool: Pool) -> None:
    while not await rows(pool, f"SELECT pg_terminate_backend(pid) FROM ({BLOCKED}) b"):
        pass  # it gave up just now, and comes back


async def rows(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def counts(pool: Pool) -> tuple[int, int]:
    [found] = await rows(pool, "SELECT count(*), count(DISTINCT event_id) FROM events")
    return int(found[0]), int(found[1])
