"""How long it takes to make a lost store anew, per million users: `python -m bench.rebuild --users 200000`.

The lake is filled with generated events, the stores are empty and of this run alone. The rebuild is a process of its own: its
wall and processor seconds and its largest memory are told as JSON, and the seconds of the stores' processes beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from ingest.lake.files import LocalLake
from ingest.lake.names import Part, folder_of
from ingest.lake.table import SCHEMA, to_parquet
from ingest.schema import MIGRATIONS
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.stores import EmbeddedPostgres, EmbeddedValkey

PARTITIONS = 4
FILE_ROWS = 200_000  # ten of the sink's files, as compaction leaves them
ITEMS = 100_000


def main() -> None:
    """Prints one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--users", type=int, default=200_000)
    options.add_argument("--events", type=int, default=20, help="of each user, in the mean")
    options.add_argument("--store", choices=("profiles", "postgres"), default="profiles")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="reco-bench-"))
    valkey, postgres = EmbeddedValkey(folder), EmbeddedPostgres(folder)
    try:
        valkey.start()
        postgres.start()
        rows = fill(LocalLake(folder / "lake"), chosen.users, chosen.events)
        asyncio.run(_migrate(postgres.url))
        told = measure(folder, valkey, postgres, chosen.store)
        print(json.dumps({"store": chosen.store, "users": chosen.users, "events": rows} | told))
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(folder)


async def _migrate(url: str) -> None:
    async with open_pool(url) as pool:
        await migrate(pool, MIGRATIONS)


def fill(files: LocalLake, users: int, events_mean: int) -> int:
    """Events of the last days; some users have many, most have few. Returns how many."""
    draw = np.random.default_rng(1)
    now_ms = int(time.time() * 1000)
    total = users * events_mean
    for number, start in enumerate(range(0, total, FILE_ROWS)):
        count = min(FILE_ROWS, total - start)
        ms = now_ms - 6 * 86_400_000 + 5 * 86_400_000 * start // total // 3_600_000 * 3_600_000
        partition = number % PARTITIONS
        user = (users * draw.random(count) ** 1.5).astype(np.int64) // PARTITIONS * PARTITIONS + partition
        offset = (ms << 16) + np.arange(count)
        folder = folder_of(ms)
        part = Part(folder, partition, number // PARTITIONS + 1, number // PARTITIONS + 1)
        files.create(part.path, to_parquet(_table(draw, user, offset, ms, start), int(offset[-1])))
    return total


def _table(draw: np.random.Generator, user: np.ndarray, offset: np.ndarray, ms: int, first: int) -> pa.Table:
    count = user.shape[0]
    item = draw.integers(1, ITEMS, count)
    times = (ms - draw.integers(0, 86_400_000, count)) * 1000
    numbers = np.arange(first, first + count)
    users = pa.array(np.char.add("user-", user.astype(str)))
    columns = {
        "event_id": np.char.add("event-", numbers.astype(str)), "subject": np.char.add("u:user-", user.astype(str)),
        "user_id": users, "item_key": item, "item_id": np.char.add("item-", item.astype(str)),
        "type": np.full(count, 2), "signal": np.full(count, 2), "event_time": times,
        "accept_time": (offset >> 16) * 1000, "stream_offset": offset,
    }  # fmt: skip
    empty = pa.array([""] * count)
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns
        else pa.nulls(count, field.type) if field.nullable else empty
        for field in SCHEMA
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def measure(folder: Path, valkey: EmbeddedValkey, postgres: EmbeddedPostgres, store: str) -> dict[str, float]:
    """Runs the command; what it took."""
    settings = {"REDIS_URL": valkey.url, "POSTGRES_URL": postgres.url, "DATA_DIR": str(folder)}
    settings |= {"PARTITION_COUNT": str(PARTITIONS), "POSTGRES_EVENT_DAYS": "0"}
    environment = os.environ | {f"RECO_{name}": value for name, value in settings.items()}
    before_s = {"valkey": _cpu_s(valkey.pid), "postgres": _cpu_s(postgres.pid)}
    command = [sys.executable, "-m", "cli", "rebuild", store, "--json"]
    start_s = time.monotonic()
    process = subprocess.Popen(command, env=environment)  # noqa: S603 -- a command of ours
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - start_s
    if status:
        raise SystemExit("the rebuild failed")
    return {
        "wall_s": round(wall_s, 1), "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": usage.ru_maxrss // 1024,
        "valkey_cpu_s": round(_cpu_s(valkey.pid) - before_s["valkey"], 1),
        "postgres_cpu_s": round(_cpu_s(postgres.pid) - before_s["postgres"], 1),
    }  # fmt: skip


def _cpu_s(pid: int | None) -> float:
    """Of a server and its children, those that have ended included."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_s(int(child)) for child in children)


if __name__ == "__main__":
    main()
