"""The ways of a batch of events into Postgres, compared: `python -m bench.postgres_ways`. Its own server, tables as ours.

Each way writes the same events into an empty partition of its own, in turns, so that a busy machine slows all alike. CPU is the
figure to trust: of this process (rows from protobufs, and the driver) and of the server with all its children.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from reco.ingest.v1.event_pb2 import AcceptedEvent, EventType

from ingest.events import StreamEvent
from ingest.partitions import make_ahead
from ingest.schema import MIGRATIONS
from ingest.sinks.postgres import DAY_MS, INSERT, row_of
from ingest.stream import Entry
from profiles.offsets import SEQUENCE_BITS
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.stores import EmbeddedPostgres

BATCHES = (10, 100, 1_000, 5_000)
EVENTS = 40_000  # of one measurement, in at most BATCHES_MAX batches
BATCHES_MAX = 400
ROUNDS = 5  # the best counts: others' work only ever adds
SEED = 6

Way = Callable[[AsyncConnection[Any], Sequence[StreamEvent]], Awaitable[None]]
COLUMNS = (
    ("event_id", "text"), ("subject", "text"), ("user_id", "text"), ("session_id", "text"), ("item_key", "int4"),
    ("item_id", "text"), ("type", "int2"), ("custom_type", "text"), ("value", "float8"), ("event_micros", "int8"),
    ("accept_micros", "int8"), ("attribution_token", "text"), ("surface", "text"), ("context", "text"),
    ("stream_offset", "int8"),
)  # fmt: skip
NAMES = ", ".join(name for name, _ in COLUMNS)
STAGING = f"CREATE TEMP TABLE staging ({', '.join(' '.join(c) for c in COLUMNS)}) ON COMMIT DELETE ROWS"
INTO = INSERT[: INSERT.index("FROM unnest")].replace("%b::int2", "0")
FROM_STAGING = f"{INTO} FROM staging ON CONFLICT DO NOTHING"
ONE_ROW = f"{INTO} FROM (VALUES ({', '.join(f'%b::{kind}' for _, kind in COLUMNS)})) AS e ({NAMES}) ON CONFLICT DO NOTHING"


async def unnest(connection: AsyncConnection[Any], events: Sequence[StreamEvent]) -> None:
    """The sink's: one statement whose parameters are arrays, one for each column."""
    columns = [list(column) for column in zip(*map(row_of, events), strict=True)]
    await connection.execute(INSERT.encode(), [0, *columns])


async def copy_text(connection: AsyncConnection[Any], events: Sequence[StreamEvent]) -> None:
    """COPY as text into a temporary table, and from there."""
    async with connection.cursor().copy(f"COPY staging ({NAMES}) FROM STDIN".encode()) as copy:
        for event in events:
            await copy.write_row(row_of(event))
    await connection.execute(FROM_STAGING.encode())


async def copy_binary(connection: AsyncConnection[Any], events: Sequence[StreamEvent]) -> None:
    """The same, binary."""
    async with connection.cursor().copy(
        f"COPY staging ({NAMES}) FROM STDIN (FORMAT BINARY)".encode()
    ) as copy:
        copy.set_types([kind for _, kind in COLUMNS])
        for event in events:
            await copy.write_row(row_of(event))
    await connection.execute(FROM_STAGING.encode())


async def pipelined(connection: AsyncConnection[Any], events: Sequence[StreamEvent]) -> None:
    """A prepared statement for each row, sent without waiting for answers."""
    async with connection.cursor() as cursor:
        await cursor.executemany(ONE_ROW.encode(), map(row_of, events))


WAYS: dict[str, Way] = {
    "unnest": unnest, "copy_text": copy_text, "copy_binary": copy_binary, "pipelined": pipelined,
}  # fmt: skip


async def main(server: EmbeddedPostgres, url: str) -> None:
    """Prints a row for each batch size and way."""
    async with open_pool(url) as pool:
        await migrate(pool, MIGRATIONS)
        await make_ahead(pool, time.time())
        async with pool.connection() as connection:
            await connection.execute(STAGING.encode())
            await connection.commit()
            print("batch  way          client us  server us  both us  events/s of one run")
            for size in BATCHES:
                await _compare(server, connection, size)


async def _compare(server: EmbeddedPostgres, connection: AsyncConnection[Any], size: int) -> None:
    best: dict[str, tuple[float, float, float]] = {}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            await connection.execute("TRUNCATE events")
            await connection.commit()
            batches = [_events(size) for _ in range(min(EVENTS // size, BATCHES_MAX))]
            found = await _measure(server, connection, way, batches)
            best[name] = min(found, best.get(name, found), key=lambda figures: figures[0] + figures[1])
    for name, (client_us, server_us, events_s) in best.items():
        print(
            f"{size:5}  {name:11}  {client_us:9.1f}  {server_us:9.1f}  {client_us + server_us:7.1f}  {events_s:8.0f}"
        )


async def _measure(
    server: EmbeddedPostgres,
    connection: AsyncConnection[Any],
    way: Way,
    batches: Sequence[Sequence[StreamEvent]],
) -> tuple[float, float, float]:
    """Microseconds an event of client and server, and events a second by the clock."""
    count = sum(map(len, batches))
    server_s, client_s, wall_s = _cpu_s(server), time.process_time(), time.perf_counter()
    for batch in batches:
        await way(connection, batch)
        await connection.commit()  # on disk: synchronous_commit is on
    wall_s = time.perf_counter() - wall_s
    client_s, server_s = time.process_time() - client_s, _cpu_s(server) - server_s
    return client_s / count * 1e6, server_s / count * 1e6, count / wall_s


def _events(count: int) -> list[StreamEvent]:
    """Events of many users; a third with a value, half with a context."""
    now_ms = int(time.time() * 1000)
    return [StreamEvent(Entry(now_ms << SEQUENCE_BITS | i, b""), _accepted(i, now_ms)) for i in range(count)]


def _accepted(number: int, now_ms: int) -> AcceptedEvent:
    made = AcceptedEvent(item_key=draw.randrange(1, 100_000))
    sent = made.event
    sent.id, sent.user_id = f"{draw.getrandbits(128):032x}", f"user-{draw.randrange(1_000_000)}"
    sent.item_id, sent.surface = f"item-{made.item_key}", "home"
    sent.type = EventType.EVENT_TYPE_CLICK
    sent.event_time.FromMilliseconds(now_ms - draw.randrange(DAY_MS // 1000))
    made.accept_time.FromMilliseconds(now_ms)
    if number % 3 == 0:
        sent.value = draw.random() * 100
    if number % 2 == 0:
        sent.context.device, sent.context.locale, sent.context.country = "phone", "de-DE", "DE"
    return made


def _cpu_s(server: EmbeddedPostgres) -> float:
    """CPU time of the server and its children, those that ended too."""
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    own = _times(server.pid)
    return (sum(own) + sum(sum(_times(int(child))[:2]) for child in children)) / os.sysconf("SC_CLK_TCK")


def _times(pid: int) -> list[int]:
    """User and system time of a process, and of its children that it has waited for, in ticks (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


@contextmanager
def _server() -> Iterator[tuple[EmbeddedPostgres, str]]:
    folder = Path(tempfile.mkdtemp(prefix="reco-ways-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder)
    try:
        yield server, server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


draw = random.Random(SEED)  # noqa: S311 -- for events, not for secrets

if __name__ == "__main__":
    with _server() as (server, url):
        asyncio.run(main(server, url))
