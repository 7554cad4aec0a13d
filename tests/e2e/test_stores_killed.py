"""Every store is killed under load; what was acknowledged is in Postgres and in the lake, each event exactly once."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections import Counter

import duckdb
import httpx
import pytest

from tests.e2e.system import System, wait_until

pytestmark = pytest.mark.e2e

WRITER_COUNT = 4
EVENTS_PER_STEP = 150  # acknowledged between two kills, so that each kill comes under load
VICTIMS = (
    "valkey-server",
    "/postgres -D",
    "ingest.consumer_main",
    "valkey-server",
    "/postgres -D",
    "-m ingest ",
)


class Load:
    """Writers that send batches over REST, again and again until acknowledged, each event under its own id."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: list[str] = []
        self.refusals: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITER_COUNT)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        base = str(self._system.rest.base_url)
        with httpx.Client(base_url=base, timeout=30) as client:
            while not self._stop.is_set():
                self._send(client, [self._event(writer) for _ in range(10)])

    @staticmethod
    def _event(writer: int) -> dict[str, str]:
        return {
            "id": f"kill-{uuid.uuid4()}",
            "userId": f"writer-{writer}",
            "itemId": "50",
            "type": "EVENT_TYPE_VIEW",
        }

    def _send(self, client: httpx.Client, events: list[dict[str, str]]) -> None:
        """Until each event is acknowledged as new or known; an answer that got lost is asked for again."""
        while events and not self._stop.is_set():
            try:
                answer = client.post("/v1/events:write", json={"events": events})
            except httpx.HTTPError:
                continue
            if answer.status_code != 200:
                with self._lock:
                    self.refusals[answer.status_code] += 1
                assert answer.headers["content-type"].startswith("application/problem+json")
                assert "Traceback" not in answer.text
                self._stop.wait(0.02)  # a caller's back-off
                continue
            done = [o["eventId"] for o in answer.json()["outcomes"] if o["status"] != "STATUS_REJECTED"]
            with self._lock:
                self.acknowledged += done
            events = [event for event in events if event["id"] not in set(done)]

    def count(self) -> int:
        with self._lock:
            return len(self.acknowledged)


def kill(system: System, word: str) -> None:
    """SIGKILL to the process and to all that it forked, and a wait until the supervisor has started another."""
    victims = system.pids(word)
    assert victims, (word, system.processes())
    oldest = min(victims)
    os.kill(oldest, signal.SIGKILL)
    wait_until(lambda: oldest not in system.processes() and system.pids(word))


def test_stores_when_killed_under_load_lose_and_double_nothing(system: System) -> None:
    with Load(system) as load:
        for victim in VICTIMS:
            before = load.count()
            wait_until(lambda before=before: load.count() >= before + EVENTS_PER_STEP, 120)
            kill(system, victim)
        before = load.count()
        wait_until(lambda: load.count() >= before + EVENTS_PER_STEP, 120)
    acknowledged = set(load.acknowledged)
    assert len(acknowledged) == len(load.acknowledged) > EVENTS_PER_STEP * len(VICTIMS)
    wait_until(lambda: acknowledged <= set(in_postgres(system)), 120)
    wait_until(lambda: acknowledged <= set(in_lake(system)), 120)
    assert max(Counter(in_postgres(system)).values()) == 1
    assert max(Counter(in_lake(system)).values()) == 1
    answer = system.rest.get("/v1/users/writer-0/recommendations")
    assert answer.status_code == 200
    assert answer.json()["degradations"] == []


def in_postgres(system: System) -> list[str]:
    with system.postgres() as connection:
        return [
            row[0] for row in connection.execute("SELECT event_id FROM events WHERE event_id LIKE 'kill-%'")
        ]


def in_lake(system: System) -> list[str]:
    files = str(system.data_dir / "lake" / "kind=events" / "**" / "*.parquet")
    query = "SELECT event_id FROM read_parquet($files) WHERE event_id LIKE 'kill-%'"
    return [row[0] for row in duckdb.execute(query, {"files": files}).fetchall()]
