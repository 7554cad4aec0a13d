"""The commands as processes, killed in the middle and run again; and stopped by Ctrl-C, which ends them soon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bench.rebuild import PARTITIONS, fill
from ingest.lake.files import LocalLake
from runtime.postgres import Pool

REPOSITORY = Path(__file__).parents[3]
USERS, EVENTS_OF_EACH = 20_000, 5
WAIT_S_MAX = 120.0
CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 128 + signal.SIGINT}

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(
    tmp_path: Path, redis: Redis, valkey: str, pool: Pool, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts a rebuild over a lake of generated events."""
    monkeypatch.setattr("bench.rebuild.FILE_ROWS", USERS * EVENTS_OF_EACH // PARTITIONS)
    fill(LocalLake(tmp_path / "lake"), USERS, EVENTS_OF_EACH)
    settings = {
        "REDIS_URL": valkey, "POSTGRES_URL": postgres, "DATA_DIR": str(tmp_path), "PARTITION_COUNT": str(PARTITIONS),
        "PYTHONPATH": "",
    }  # fmt: skip
    environment = os.environ | {f"RECO_{name}": value for name, value in settings.items()}
    environment["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'gen'}"
    started = []

    def begin(store: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cli", "rebuild", store, "--json"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, cwd=REPOSITORY, text=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


async def begun(count: Callable[[], Awaitable[int]]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not await count():  # noqa: ASYNC110 -- the store knows, no event of ours does
            await asyncio.sleep(0.005)


async def finished(process: subprocess.Popen[str]) -> dict[str, int]:
    out, log = await asyncio.to_thread(process.communicate, timeout=WAIT_S_MAX)
    assert process.returncode == 0, log
    return dict(json.loads(out))


async def profile_count(redis: Redis) -> int:
    return sum([1 async for _ in redis.scan_iter("reco:{u:*}:p", count=10_000)])


@pytest.mark.parametrize("number", CODES)
async def test_profiles_that_were_interrupted_are_whole_after_another_run(
    start: Start, redis: Redis, number: signal.Signals
) -> None:
    process = start("profiles")
    await begun(lambda: profile_count(redis))
    process.send_signal(number)
    _, log = await asyncio.to_thread(process.communicate, timeout=WAIT_S_MAX)
    assert process.returncode == CODES[number], log
    assert "Traceback" not in log

    done = await finished(start("profiles"))

    assert done["events"] == USERS * EVENTS_OF_EACH
    assert await profile_count(redis) == done["profiles"] > 15_000


@pytest.mark.parametrize("number", CODES)
async def test_a_database_that_was_interrupted_is_whole_after_another_run(
    start: Start, pool: Pool, number: signal.Signals
) -> None:
    async def event_count() -> int:
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT count(*) FROM events")).fetchone()
        return int(row[0]) if row else 0

    process = start("postgres")
    await begun(event_count)
    process.send_signal(number)
    _, log = await asyncio.to_thread(process.communicate, timeout=WAIT_S_MAX)
    assert process.returncode == CODES[number], log
    assert "Traceback" not in log
    before = await event_count()

    done = await finished(start("postgres"))

    assert before + done["events"] == USERS * EVENTS_OF_EACH == await event_count()
    assert done["differ"] == []
