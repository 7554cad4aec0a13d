"""`reco load` into a running ingest: each format, a kill in the middle, stores that are away, little memory."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.load import job_of
from cli.loading.checkpoint import Checkpoint
from cli.loading.mapping import from_options
from cli.loading.run import CHECKPOINT_ROWS, Job, _begin, load_into
from ingest.limits import DEDUPLICATION_WINDOW_S
from runtime.errors import StateError
from runtime.settings import Settings
from tests.integration.ingest.harness import Ingest

REPOSITORY = Path(__file__).parents[3]
BAD_EVERY = 100  # each such row has no user, and the one behind it a rating that the contract refuses
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
MAPPING, ITEMS = from_options({"value": "value"}, {})


def checkpoint_path(path: Path) -> Path:
    return Job(path, MAPPING).checkpoint


def rejected_path(path: Path) -> Path:
    return Job(path, MAPPING).rejected(path)


def table(count: int) -> list[dict[str, Any]]:
    """Rows, some of them equal and some bad. Titles with line breaks make rows of several lines."""
    return [
        {
            "user": "" if n % BAD_EVERY == 1 else f"u{n % 50}",
            "item": f"i{n % 40}",
            "time": 1_700_000_000 + n // 3,
            "value": 9.0 if n % BAD_EVERY == 2 else 4.0,
            "more": f"ü, {n}",
        }
        for n in range(1, count + 1)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=len(rows) // 3)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def rejected_rows(path: Path) -> list[int]:
    return [json.loads(line)["row"] for line in rejected_path(path).read_text().splitlines()]


def expected_rejected(count: int) -> list[int]:
    return [n for n in range(1, count + 1) if n % BAD_EVERY in (1, 2)]


async def load(ingest: Ingest, path: Path, **more: Any) -> Checkpoint:
    return await asyncio.to_thread(load_into, ingest.settings, Job(path, MAPPING, **more))


async def stored(ingest: Ingest) -> int:
    async with ingest.consumers():
        await ingest.caught_up()
    async with ingest.pool.connection() as connection:
        row = await (
            await connection.execute("SELECT count(*), count(DISTINCT event_id) FROM events")
        ).fetchone()
    assert row is not None
    assert row[0] == row[1]
    return int(row[0])


@pytest.mark.parametrize("ending", ENDINGS)
async def test_load_of_each_format_takes_every_good_row_once_and_sets_aside_the_others(
    ingest: Ingest, tmp_path: Path, ending: str
) -> None:
    path = write(tmp_path / f"events{ending}", table(2_500))

    done = (await load(ingest, path)).events

    assert (done.accepted, done.duplicate, done.refused, done.set_aside) == (2_450, 0, 25, 25)
    assert done.reasons == {"the user is missing": 25, "FIELD_INVALID": 25}
    assert rejected_rows(path) == expected_rejected(2_500)
    assert await stored(ingest) == 2_450
    assert not checkpoint_path(path).exists()


async def test_load_when_repeated_in_another_format_changes_nothing(ingest: Ingest, tmp_path: Path) -> None:
    for number, ending in enumerate(ENDINGS):
        done = (await load(ingest, write(tmp_path / f"events{ending}", table(300)))).events
        assert (done.accepted, done.duplicate) == ((294, 0) if number == 0 else (0, 294))


async def test_load_of_items_describes_them_and_makes_those_that_events_name(
    ingest: Ingest, tmp_path: Path
) -> None:
    path = write(tmp_path / "events.csv", table(100))
    items = tmp_path / "items.csv"
    items.write_text("item,title\ni1,One\n,nothing\ni2,Two\n")
    columns = from_options({}, {"title": "title"})[1]

    done = await load(ingest, path, items=items, item_columns=columns)

    assert (done.items.created, done.items.set_aside, done.events.created) == (2, 1, 38)
    assert rejected_rows(items) == [2]


def start(ingest: Ingest, path: Path) -> subprocess.Popen[str]:
    settings: Settings = ingest.settings
    environment = {
        **os.environ,
        "RECO_REDIS_URL": settings.redis_url,
        "RECO_POSTGRES_URL": settings.postgres_url,
        "RECO_INGEST_PORT": str(settings.ingest_port),
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen'}",
    }
    command = [sys.executable, "-m", "cli", "load", str(path), "--map=value=value", "--json"]
    return subprocess.Popen(
        command, env=environment, cwd=path.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("ending", ENDINGS)
async def test_load_when_killed_in_the_middle_goes_on_and_every_row_is_there_once(
    ingest: Ingest, tmp_path: Path, ending: str
) -> None:
    count = CHECKPOINT_ROWS + 5_000
    path = write(tmp_path / f"events{ending}", table(count))
    killed = await asyncio.to_thread(start, ingest, path)
    while not checkpoint_path(path).exists():
        await asyncio.sleep(0.01)
        assert killed.poll() is None, killed.communicate()
    killed.kill()
    await asyncio.to_thread(killed.communicate)

    again = await asyncio.to_thread(start, ingest, path)
    out, notes = await asyncio.to_thread(again.communicate)

    good = count - len(expected_rejected(count))
    result = json.loads(out)
    assert "going on behind row" in notes
    assert result["events_accepted"] + result["events_duplicate"] == good
    assert rejected_rows(path) == expected_rejected(count)
    assert await stored(ingest) == good


async def test_load_when_a_checkpoint_is_of_another_mapping_or_to_be_ignored_starts_over(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "events.csv", table(200))
    await load(ingest, path)
    for identity in ({}, {"mapping": "another"}):
        Checkpoint(identity).write(checkpoint_path(path))
        assert (await load(ingest, path)).events.duplicate == 196
        assert "loading from the start" in capsys.readouterr().err
    checkpoint_path(path).write_text("{torn")
    assert (await load(ingest, path, from_start=True)).events.duplicate == 196
    assert rejected_rows(path) == expected_rejected(200)


async def test_load_with_a_work_folder_leaves_nothing_beside_the_file(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    path = write(tmp_path / "data/events.csv", table(200))
    await load(ingest, path, work_folder=tmp_path / "work")
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["events.csv"]
    assert [each.name for each in (tmp_path / "work").iterdir()] == ["events.csv.rejected.jsonl"]
    with pytest.raises(StateError, match=r"none can't be written, .* choose another with --work-folder"):
        await load(ingest, path, work_folder=tmp_path / "none")


async def test_load_that_goes_on_after_the_ids_are_forgotten_asks_the_database_for_what_came_in(
    ingest: Ingest, tmp_path: Path
) -> None:
    path = write(tmp_path / "events.csv", table(200))
    await load(ingest, path)
    assert await stored(ingest) == 196
    await ingest.redis.flushall()  # as after six hours
    begun = await asyncio.to_thread(_begin, ingest.settings, Job(path, MAPPING))
    begun.write(checkpoint_path(path))
    told = json.loads(checkpoint_path(path).read_text())
    told["write_time_s"] -= DEDUPLICATION_WINDOW_S
    checkpoint_path(path).write_text(json.dumps(told))

    done = (await load(ingest, path)).events

    assert (done.accepted, done.duplicate, done.refused) == (0, 196, 2)
    assert rejected_rows(path) == expected_rejected(200)


async def test_load_of_the_sample_knows_it_all_the_second_time(
    ingest: Ingest, tmp_path: Path, movielens_dir: Path
) -> None:
    job = job_of("movielens")
    head = tmp_path / job.events.name
    with job.events.open() as file:
        head.write_text("".join(next(file) for _ in range(2_001)))
    items = tmp_path / "items.item"
    items.write_bytes((movielens_dir / "ml-100k.item").read_bytes())
    job = replace(job, events=head, items=items)

    first = await asyncio.to_thread(load_into, ingest.settings, job)
    second = await asyncio.to_thread(load_into, ingest.settings, job)

    assert (first.events.accepted, first.items.created, first.events.created) == (2_000, 1_682, 0)
    assert (second.events.accepted, second.events.duplicate, second.items.updated) == (0, 2_000, 1_682)


PEAK = """
import sys
from pathlib import Path
from cli.loading.events import EventMaker
from cli.loading.mapping import from_options
from cli.loading.run import _batches
from training.tables import START
mapping, _ = from_options({}, {})
print(sum(len(b.messages) for b in _batches(Path(sys.argv[1]), ["user", "item", "time"], EventMaker(mapping).make, START)))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # getrusage's peak is the parent's before exec
print(int(status["VmHWM"].split()[0]) // 1024)
"""
MORE_MIB_MAX = 24  # than for an eighth of the rows; those of the large file would take some 60 MiB as dicts


@pytest.mark.parametrize("ending", ENDINGS)
def test_load_of_a_large_file_takes_no_more_memory_than_of_a_small_one(tmp_path: Path, ending: str) -> None:
    peaks = []
    for count in (15_000, 120_000):
        rows = [
            {"user": f"u{n}", "item": f"a longer name {n}", "time": 1_700_000_000 + n} for n in range(count)
        ]
        path = write(tmp_path / f"{count}{ending}", rows)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path)], cwd=REPOSITORY, text=True, capture_output=True,
            check=True, env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen'}"},
        )  # fmt: skip
        read, peak = map(int, done.stdout.split())
        assert read == count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < MORE_MIB_MAX, peaks
