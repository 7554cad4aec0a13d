"""What each RECO_DURABILITY costs: appends to the stream at each setting, in turns, p50 and p99 of one call.

python -m bench.durability
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench import results
from bench.valkeys import Valkey, has_replica, started, until
from ingest.stream import StreamWriter
from runtime.redis_client import connect

ROUNDS = 10
CALLS = 100  # of a round, at each setting and size
SIZES = (1, 100)  # events of a call
PAYLOAD = b"\0" * 150  # about as long as an AcceptedEvent
FOLDER = results.FOLDER / "durability"
# The primary's appendfsync, its replica's (""; there is none), and how many replicas are waited for.
SETTINGS = {
    "everysec": ("everysec", "", 0),
    "always": ("always", "", 0),
    "replicas 1 on everysec": ("everysec", "everysec", 1),
    "replicas 1 on always": ("always", "always", 1),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where the stores write (default: for temporary files)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the result")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reco-bench-", dir=arguments.folder) as folder:
        figures = asyncio.run(measure(Path(folder)))
    print(_table(figures))
    now = datetime.now(UTC)
    found = {
        "start_time": now.isoformat(timespec="seconds"),
        "machine": results.machine(),
        "figures": figures,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written to {path}")
    return 0


async def measure(folder: Path, rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, dict[str, float]]:
    """By setting and size: p50, p99 (ms), and p50 over that of `everysec`."""
    times: dict[tuple[str, int], list[float]] = {(name, size): [] for name in SETTINGS for size in SIZES}
    async with AsyncExitStack() as stack:
        writers = {
            name: await stack.enter_async_context(_writer(folder, *how)) for name, how in SETTINGS.items()
        }
        for turn in range(rounds + 1):
            for name, size in _in_turn(list(times), turn):
                took = await _calls(writers[name], f"{turn}-{size}", size, calls)
                times[name, size] += took if turn else []  # the first one warms up
    quantiles = {key: np.quantile(found, (0.5, 0.99)) * 1000 for key, found in times.items()}
    return {
        f"{name}, {size} events": {
            "p50_ms": round(p50, 3), "p99_ms": round(p99, 3),
            "p50_over_everysec": round(p50 / quantiles["everysec", size][0], 2),
        }
        for (name, size), (p50, p99) in quantiles.items()
    }  # fmt: skip


def _in_turn(keys: list[tuple[str, int]], turn: int) -> list[tuple[str, int]]:
    """Everyone goes first once."""
    return keys[turn % len(keys) :] + keys[: turn % len(keys)]


@asynccontextmanager
async def _writer(folder: Path, fsync: str, replica_fsync: str, count: int) -> AsyncIterator[StreamWriter]:
    """A writer on stores of its own."""
    primary = Valkey(folder, appendonly="yes", appendfsync=fsync)
    of = f"127.0.0.1 {primary.port}"
    replicas = [
        Valkey(folder, appendonly="yes", appendfsync=replica_fsync, replicaof=of) for _ in range(count)
    ]
    with started(primary, *replicas):
        until(lambda: has_replica(primary, count))
        async with connect(primary.url) as redis:
            yield StreamWriter(redis, replica_count=count)


async def _calls(writer: StreamWriter, name: str, size: int, calls: int) -> list[float]:
    """Seconds of each call, one after the other."""
    took = []
    for call in range(calls):
        events = [(f"{name}-{call}-{n}", PAYLOAD) for n in range(size)]
        begin_s = time.perf_counter()
        await writer.append(0, events)
        took.append(time.perf_counter() - begin_s)
    return took


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [f"{'':<36}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}"]
    rows += [
        f"{name:<36}{f['p50_ms']:>9.3f}{f['p99_ms']:>9.3f}{f['p50_over_everysec']:>8.2f}"
        for name, f in figures.items()
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
