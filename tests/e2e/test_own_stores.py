"""`reco up` on stores that the operator brings: it uses those, and starts none."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.e2e.system import System, wait_until

pytestmark = pytest.mark.e2e

ITEMS = [{"id": "film", "title": "A film"}]
EVENT = {"id": "e1", "userId": "ann", "itemId": "film", "type": "EVENT_TYPE_CLICK"}


def test_up_when_the_stores_urls_are_set_uses_them_and_starts_none(
    fresh: System, valkey: str, postgres: str, tmp_path: Path
) -> None:
    lake = tmp_path / "a lake"
    fresh.settings = {"REDIS_URL": valkey, "POSTGRES_URL": postgres, "LAKE_URL": str(lake)}
    with Redis.from_url(valkey) as redis:
        redis.flushall()
        fresh.start()
        fresh.rest.post("/v1/items:upsert", json={"items": ITEMS})
        assert fresh.rest.post("/v1/events:write", json={"events": [EVENT]}).json()["acceptedCount"] == 1
        assert sum(redis.xlen(key) for key in redis.scan_iter("reco:{events:*}", _type="stream")) == 1
    with psycopg.connect(postgres, autocommit=True) as connection:
        wait_until(lambda: connection.execute("SELECT event_id FROM events").fetchall() == [("e1",)])
    wait_until(lambda: list(lake.rglob("*.parquet")))
    programs = " ".join(fresh.processes().values())
    assert "valkey-server" not in programs
    assert "bin/postgres" not in programs
    assert {p.name for p in fresh.data_dir.iterdir()}.isdisjoint({"valkey", "postgres", "lake"})
    assert fresh.stop() == 0
    assert fresh.processes() == {}
