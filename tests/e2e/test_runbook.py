"""The runbook's commands for both disasters, as they stand in docs/runbook.md, against a real system."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from redis import Redis

from ingest.lake.files import LocalLake
from ingest.lake.listing import readable
from ingest.lake.query import connect
from profiles.codec import decode
from profiles.store import profile_key
from tests.e2e.system import REPOSITORY, System, wait_until

pytestmark = pytest.mark.e2e

EVENTS = [
    {
        "id": f"e-{number}", "userId": f"user-{number % 23}", "itemId": f"item-{number % 40}", "surface": "a, \"b\"",
        "type": "EVENT_TYPE_RATING" if number % 3 else "EVENT_TYPE_VIEW", **({"value": 4.5} if number % 3 else {}),
    }
    for number in range(400)
]  # fmt: skip
TABLES = {
    "items": "SELECT to_jsonb(t) - 'changed_xid' FROM items t ORDER BY key",
    "users": "SELECT to_jsonb(t) FROM users t ORDER BY id",
    "events": "SELECT to_jsonb(t) FROM events t ORDER BY event_id",
}


def commands(heading: str) -> list[str]:
    """The lines of the blocks under a heading, remarks left out."""
    text = (REPOSITORY / "docs" / "runbook.md").read_text()
    chapter = re.split(r"^## ", text.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", chapter, flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def follow(system: System, heading: str) -> None:
    """Runs them one after the other; `reco up` stays."""
    found = commands(heading)
    assert "reco up" in found
    for command in found:
        if command == "reco up":
            system.start()
            continue
        script = f'set -eu; reco() {{ "{sys.executable}" -m cli "$@"; }}; {command}'
        done = subprocess.run(
            ["bash", "-c", script], env=system.environment, cwd=REPOSITORY, text=True, capture_output=True, timeout=300, check=False
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def write(system: System, events: list[dict[str, Any]]) -> dict[str, Any]:
    answer = system.rest.post("/v1/events:write", json={"events": events})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def profiles(system: System) -> dict[bytes, bytes]:
    note = json.loads((system.data_dir / "running.json").read_text())
    with Redis.from_url(note["redis_url"]) as redis:
        return {key: redis.get(key) for key in redis.scan_iter(profile_key("*"))}


def counted(system: System) -> int:
    return sum(decode(value).event_count for value in profiles(system).values())


def tables(system: System) -> dict[str, list[Any]]:
    with system.postgres() as connection:
        return {name: connection.execute(query.encode()).fetchall() for name, query in TABLES.items()}


def in_lake(system: System, kind: str) -> int:
    files = LocalLake(system.data_dir / "lake")
    with connect(files, {kind: readable(files, kind)}) as lake:
        row = lake.execute(f"SELECT count(*) FROM {kind}").fetchone()
    return int(row[0]) if row else 0


@pytest.fixture
def filled(fresh: System) -> System:
    """A system whose sinks have taken everything."""
    fresh.start()
    items = [{"id": f"item-{number}", "title": f"Item {number}"} for number in range(40)]
    assert fresh.rest.post("/v1/items:upsert", json={"items": items}).status_code == 200
    users = [{"id": f"user-{number}"} for number in range(3)]
    assert fresh.rest.post("/v1/users:upsert", json={"users": users}).status_code == 200
    assert write(fresh, EVENTS)["acceptedCount"] == len(EVENTS)
    wait_until(lambda: counted(fresh) == len(tables(fresh)["events"]) == len(EVENTS))
    wait_until(lambda: in_lake(fresh, "events") == len(EVENTS) and in_lake(fresh, "items") == 40)
    wait_until(lambda: in_lake(fresh, "users") == 3)
    return fresh


def test_runbook_when_either_store_is_lost_brings_it_back(filled: System) -> None:
    before_profiles, before_tables = profiles(filled), tables(filled)
    filled.stop()

    follow(filled, "Redis is lost")

    assert profiles(filled) == before_profiles
    assert write(filled, EVENTS)["duplicateCount"] == len(EVENTS)
    filled.stop()

    follow(filled, "PostgreSQL is lost")

    assert tables(filled) == before_tables
    assert profiles(filled) == before_profiles
    assert write(filled, [{**EVENTS[0], "id": "new"}])["acceptedCount"] == 1
    wait_until(lambda: counted(filled) == len(tables(filled)["events"]) == len(EVENTS) + 1)
