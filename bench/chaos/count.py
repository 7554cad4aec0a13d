"""What has arrived, counted with plain SQL and a plain fold: not by the code that wrote it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import duckdb
import numpy as np
import psycopg
from numpy.typing import NDArray
from redis import Redis

from bench.chaos import sent
from ingest.lake.files import LocalLake
from ingest.lake.listing import readable
from profiles.codec import OFFSET_BYTES, merge, pack_event
from profiles.signals import signal_of
from profiles.store import profile_key

SHOWN_MAX: Final = 5
FETCH_ROWS: Final = 20_000
Row = tuple[
    str, str, str, int, float | None, int, int
]  # id, user, item, type, value, event time in s, item key


@dataclass
class Arrived:
    """What a store holds of a run."""

    name: str
    counts: Counter[int] = field(default_factory=Counter)  # by the event's number
    wrong: list[str] = field(default_factory=list)  # events that say something else than what was sent

    def lost(self, acknowledged: set[int]) -> list[int]:
        """Acknowledged and not there."""
        return sorted(acknowledged - self.counts.keys())

    def doubled(self) -> list[int]:
        """There more than once."""
        return sorted(number for number, count in self.counts.items() if count > 1)

    def add(self, row: Row, begin_s: int) -> None:
        """Counts a row and holds it against what was sent."""
        number = sent.number_of(row[0])
        self.counts[number] += 1
        if len(self.wrong) < SHOWN_MAX and number >= 0 and (what := _difference(row, number, begin_s)):
            self.wrong.append(f"{self.name}: {row[0]}: {what}")


def _difference(row: Row, number: int, begin_s: int) -> str:
    made = sent.event(number, begin_s)
    value = made.value if made.HasField("value") else None
    want = (made.user_id, made.item_id, made.type, value)
    if row[1:5] != want:
        return f"{row[1:5]} in place of {want}"
    if made.HasField("event_time") and row[5] != made.event_time.seconds:
        return f"time {row[5]} in place of {made.event_time.seconds}"
    return ""


def in_postgres(url: str, begin_s: int) -> tuple[Arrived, dict[str, list[Row]]]:
    """What PostgreSQL holds, and its rows by subject."""
    found, by_subject = Arrived("postgres"), defaultdict(list)
    query = """SELECT event_id, user_id, item_id, type, value, floor(extract(epoch FROM event_time))::bigint, item_key, subject
      FROM events"""
    with psycopg.connect(url) as connection, connection.cursor("chaos") as cursor:
        cursor.itersize = FETCH_ROWS
        for *row, subject in cursor.execute(query):
            typed: Any = tuple(row)
            found.add(typed, begin_s)
            by_subject[subject].append(typed)
    return found, by_subject


def in_lake(folder: Path, begin_s: int) -> Arrived:
    """What the lake's files hold. One that was compacted, and not moved away yet since somebody died, is left out."""
    found = Arrived("lake")
    files = [str(folder / path) for path in readable(LocalLake(folder))]
    query = """SELECT event_id, user_id, item_id, type, value, CAST(floor(epoch(event_time)) AS BIGINT), item_key
      FROM read_parquet($files, union_by_name = true, hive_partitioning = true)"""
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(query, {"files": files})
        while batch := rows.fetchmany(FETCH_ROWS):
            for row in batch:
                found.add(row, begin_s)
    return found


def wrong_profiles(redis: Redis, by_subject: dict[str, list[Row]]) -> list[str]:
    """Subjects whose profile is not the fold of their events."""
    wrong = []
    for subject, rows in by_subject.items():
        stored: Any = redis.get(profile_key(subject))
        if _plain(stored) != _plain(merge(None, _packed(rows), 0)):
            wrong.append(subject)
    return wrong


def _packed(rows: Iterable[Row]) -> NDArray[np.uint64]:
    return np.array([_pack(*row) for row in rows], np.uint64)


def _pack(_id: str, _user: str, _item: str, kind: int, value: float | None, time_s: int, key: int) -> int:
    return pack_event(time_s, int(signal_of(cast(Any, kind), value or 0.0)), key)


def _plain(value: bytes | None) -> bytes:
    """A profile without the place in the stream that it has reached."""
    return b"" if value is None else value[: OFFSET_BYTES.start] + value[OFFSET_BYTES.stop :]
