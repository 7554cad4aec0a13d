"""Training runs over real stores: what they publish, and that every run which ends badly is told as failed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from procrastinate import App

from bundle import registry
from ingest.server import MIGRATIONS
from runtime.errors import store_unavailable
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.settings import Settings, load_settings
from tests.unit.training.synthetic import CONFIG, synthetic_dataset
from training import jobs
from training.__main__ import run_job
from training.jobs import apply_schema, enqueue_training, make_app
from training.runs import Run, RunLog, create_run, read_run
from training.stalled import clear_up
from training.worker import work

WAIT_S_MAX = 60.0
T = TypeVar("T")


@pytest.fixture
async def settings(valkey: str, postgres: str, redis: object, tmp_path: Path) -> Settings:
    """An empty and migrated database, an empty lake."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    async with open_pool(postgres) as pool:
        await migrate(pool, MIGRATIONS)
    return load_settings(data_dir=tmp_path, redis_url=valkey, postgres_url=postgres, _env_file=None)


def sql(settings: Settings, query: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        cursor = connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []


def new_run(settings: Settings) -> int:
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        return create_run(connection)


def run_of(settings: Settings, run_id: int) -> Run:
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        run = read_run(connection, run_id)
    assert run is not None
    return run


def lake_folder(settings: Settings) -> Path:
    folder = settings.data_dir / "lake" / "kind=events" / "date=2024-01-01" / "hour=00"
    folder.mkdir(parents=True)
    return folder


def fill_lake(settings: Settings) -> None:
    dataset = synthetic_dataset(40, item_count=40)
    columns = {
        "event_id": [f"e{i}" for i in range(len(dataset))],
        "subject": [f"u:{user}" for user in dataset.users],
        "item_key": pa.array(dataset.items.keys[dataset.rows], pa.int32()),
        "signal": pa.array(dataset.codes, pa.int8()),
        "event_time": pa.array(dataset.times.astype("datetime64[s]"), pa.timestamp("us", "UTC")),
    }
    pq.write_table(pa.table(columns), lake_folder(settings) / "part-0.parquet")


async def trained(settings: Settings) -> Run:
    run_id = new_run(settings)
    await run_job(run_id, CONFIG, settings, asyncio.Event())
    return run_of(settings, run_id)


async def failed(settings: Settings) -> Run:
    run_id = new_run(settings)
    with pytest.raises(SystemExit) as ended:
        await run_job(run_id, CONFIG, settings, asyncio.Event())
    assert ended.value.code == 1
    return run_of(settings, run_id)


async def test_run_when_it_is_the_first_publishes_without_and_with_a_ranker(settings: Settings) -> None:
    fill_lake(settings)
    run = await trained(settings)
    assert run.state == "done"
    assert run.message.startswith("published, NDCG@10")
    found = sql(settings, "SELECT version, has_ranker, state FROM models ORDER BY has_ranker")
    assert [(ranked, state) for _, ranked, state in found] == [(False, "published"), (True, "active")]
    assert run.model_version == found[1][0]
    assert sorted(path.name for path in settings.models_dir.iterdir()) == sorted(str(row[0]) for row in found)


async def test_run_when_the_model_is_worse_than_the_active_one_holds_it_and_says_so(
    settings: Settings,
) -> None:
    fill_lake(settings)
    best = await trained(settings)
    sql(settings, "UPDATE models SET metrics = metrics || '{\"ranker_ndcg_at_10\": 1.5}'")
    run = await trained(settings)
    assert run.state == "done"
    assert run.message.startswith("held: NDCG@10")
    assert str(best.model_version) in run.message
    assert sql(settings, "SELECT state FROM models WHERE version = %s", run.model_version) == [("held",)]
    async with open_pool(settings.postgres_url) as pool:
        assert await registry.active_version(pool) == best.model_version


async def test_run_when_the_lake_is_empty_fails_and_says_what_to_do(settings: Settings) -> None:
    run = await failed(settings)
    assert (run.state, run.model_version) == ("failed", None)
    assert "the lake holds no events yet: load some" in run.message


async def test_run_when_a_file_of_the_lake_is_torn_names_it(settings: Settings) -> None:
    fill_lake(settings)
    (settings.data_dir / "lake" / "kind=events" / "torn.parquet").write_bytes(b"PAR1 torn")
    run = await failed(settings)
    assert run.state == "failed"
    assert "torn.parquet" in run.message


async def test_run_when_nothing_can_be_published_fails_and_leaves_no_model(
    settings: Settings,
) -> None:
    fill_lake(settings)
    settings.models_dir.write_text("a file where the folder should be")
    run = await failed(settings)
    assert run.state == "failed"
    assert run.message
    assert sql(settings, "SELECT * FROM models") == []


async def test_publish_when_the_registry_fails_after_the_commit_keeps_the_bundle(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_lake(settings)
    register = registry.register

    async def broken(*arguments: Any) -> None:
        await register(*arguments)
        raise store_unavailable("postgres", OSError())

    monkeypatch.setattr(registry, "register", broken)
    assert (await failed(settings)).state == "failed"
    ((version,),) = sql(settings, "SELECT version FROM models WHERE state = 'active'")
    assert (settings.models_dir / str(version) / "manifest.json").exists()


async def test_run_when_its_connection_breaks_goes_on(settings: Settings) -> None:
    log = RunLog(settings.postgres_url, run_id := new_run(settings))
    log.progress("factors", 0, 4)
    sql(
        settings,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    log.progress("neighbours", 1, 4)
    log.progress("transitions", 2, 4)
    log.end("done", "")
    log.close()
    run = run_of(settings, run_id)
    assert (run.state, run.stage, run.done) == ("done", "transitions", 2)


async def test_run_when_postgres_never_answers_drops_progress(settings: Settings) -> None:
    log = RunLog("postgresql://localhost:1/none?connect_timeout=1", 1)
    log.progress("factors", 0, 4)
    log.close()


async def opened(settings: Settings) -> App:
    app = make_app(settings.postgres_url)
    await app.open_async()
    await apply_schema(app, settings.postgres_url)
    return app


async def eventually(look: Callable[[], T | None]) -> T:
    """What `look` finds, as soon as it finds it."""
    async with asyncio.timeout(WAIT_S_MAX):
        while (found := look()) is None:  # noqa: ASYNC110 -- other processes write rows and files, no event of ours is set
            await asyncio.sleep(0.02)
    return found


async def test_enqueue_when_one_waits_already_takes_no_third(settings: Settings) -> None:
    app = await opened(settings)
    assert await enqueue_training(app, 1, quick=True)
    assert not await enqueue_training(app, 2, quick=True)
    job = await app.job_manager.fetch_job(None, await app.job_manager.register_worker())
    assert job is not None
    assert job.task_kwargs["run_id"] == 1
    assert await enqueue_training(app, 3, quick=True)
    # The lock: what waits does not start beside what runs.
    assert await app.job_manager.fetch_job(None, await app.job_manager.register_worker()) is None
    await app.close_async()


async def test_clear_up_when_a_worker_died_fails_its_run_and_frees_the_next(settings: Settings) -> None:
    app = await opened(settings)
    dead, waiting, lost = (new_run(settings) for _ in range(3))
    await enqueue_training(app, dead, quick=True)
    manager = app.job_manager
    assert await manager.fetch_job(None, await manager.register_worker()) is not None
    await enqueue_training(app, waiting, quick=True)
    await clear_up(app, settings.postgres_url)
    assert [run_of(settings, run).state for run in (dead, waiting, lost)] == ["running"] * 3
    # Its heart beat last an hour ago, and so stand the rows.
    sql(settings, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    sql(settings, "UPDATE training_runs SET change_time = now() - interval '1 hour'")
    await clear_up(app, settings.postgres_url)
    runs = [run_of(settings, run) for run in (dead, waiting, lost)]
    assert [run.state for run in runs] == ["failed", "running", "failed"]
    assert "worker died" in runs[0].message
    job = await manager.fetch_job(None, await manager.register_worker())
    assert job is not None
    assert job.task_kwargs["run_id"] == waiting
    await app.close_async()


@pytest.fixture
def sleeping(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Training processes that only say their process id and then wait."""
    note = tmp_path / "pid"
    (tmp_path / "training.py").write_text(
        f"import os, time; open({str(note)!r} + '.new', 'w').write(str(os.getpid()));"
        f" os.rename({str(note)!r} + '.new', {str(note)!r}); time.sleep(600)"
    )
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, str(tmp_path / "training.py")))
    monkeypatch.setenv("RECO_POSTGRES_URL", settings.postgres_url)
    return note


def pid_of(note: Path) -> int | None:
    return int(note.read_text()) if note.exists() else None


def ended(settings: Settings, run_id: int) -> Run | None:
    run = run_of(settings, run_id)
    return None if run.state == "running" else run


async def test_run_when_its_process_is_killed_is_failed_and_says_by_what(
    settings: Settings, sleeping: Path
) -> None:
    app = await opened(settings)
    run_id = new_run(settings)
    await enqueue_training(app, run_id, quick=True)
    await app.close_async()
    stop = asyncio.Event()
    worker = asyncio.create_task(work(settings, stop))
    os.kill(await eventually(lambda: pid_of(sleeping)), signal.SIGKILL)
    run = await eventually(lambda: ended(settings, run_id))
    assert run.state == "failed"
    assert "killed by signal 9" in run.message
    stop.set()
    await worker


async def test_worker_when_stopped_ends_the_process_and_its_job(settings: Settings, sleeping: Path) -> None:
    app = await opened(settings)
    await enqueue_training(app, new_run(settings), quick=True)
    await app.close_async()
    stop = asyncio.Event()
    worker = asyncio.create_task(work(settings, stop))
    process = await eventually(lambda: pid_of(sleeping))
    stop.set()
    await worker
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert sql(settings, "SELECT status::text FROM procrastinate_jobs") == [("aborted",)]
