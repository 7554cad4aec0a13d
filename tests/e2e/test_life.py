"""Start, stop, start again: data survives, nothing is left behind, wrong beginnings say what to do."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.system import System, wait_until

pytestmark = pytest.mark.e2e

EVENT = {"id": "e1", "userId": "ann", "itemId": "film", "type": "EVENT_TYPE_CLICK"}
ITEMS = [{"id": "film", "title": "A film"}, {"id": "other", "title": "Another"}]


def test_up_when_stopped_and_started_again_keeps_the_data_and_leaves_no_process(fresh: System) -> None:
    fresh.start()
    assert fresh.rest.post("/v1/items:upsert", json={"items": ITEMS}).json()["createdCount"] == 2
    offset = fresh.rest.post("/v1/events:write", json={"events": [EVENT]}).json()["offset"]
    assert fresh.stop(signal.SIGINT) == 0
    assert fresh.processes() == {}
    fresh.start()
    again = fresh.rest.post("/v1/events:write", json={"events": [EVENT]}).json()
    assert again["duplicateCount"] == 1
    answer = fresh.rest.get("/v1/users/ann/recommendations", params={"minimumOffset": offset}).json()
    assert [item["itemId"] for item in answer["items"]] == ["other"]
    assert "DEGRADATION_MODEL_MISSING" in answer["degradations"]
    with fresh.postgres() as connection:
        wait_until(lambda: connection.execute("SELECT event_id FROM events").fetchall() == [("e1",)])
    fresh.stop(signal.SIGKILL)  # not even a chance to clean up
    wait_until(lambda: fresh.processes() == {})


def test_up_when_the_folder_is_in_use_says_so_and_leaves_the_first_alone(fresh: System) -> None:
    fresh.start()
    failed = fresh.reco("up", code=1)
    assert "already" in failed.stderr
    assert "RECO_DATA_DIR" in failed.stderr
    fresh.reco("events", "tail", "--no-follow")  # it still finds the first one's stores
    assert fresh.stop() == 0


def test_load_when_a_known_item_is_not_described_leaves_it_as_it_is(fresh: System, tmp_path: Path) -> None:
    fresh.start()
    fresh.rest.post("/v1/items:upsert", json={"items": ITEMS})
    (tmp_path / "events.csv").write_text("user,item,time\nann,film,1700000000\nann,new,1700000001\n")
    result = fresh.reco_json("load", str(tmp_path / "events.csv"))
    assert (result["items_created"], result["items_updated"], result["events_accepted"]) == (1, 0, 2)
    with fresh.postgres() as connection:
        assert connection.execute("SELECT title FROM items WHERE id = 'film'").fetchone() == ("A film",)


def test_up_when_a_port_is_taken_names_the_setting(fresh: System) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        fresh.ports["GATEWAY_PORT"] = taken.getsockname()[1]
        failed = fresh.reco("up", code=1)
    assert "RECO_GATEWAY_PORT" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert fresh.processes() == {}


def test_up_when_a_setting_is_wrong_names_it_and_its_rule(fresh: System) -> None:
    fresh.ports["PARTITION_COUNT"] = 0
    failed = fresh.reco("up", code=2)
    assert "RECO_PARTITION_COUNT" in failed.stderr
    assert "greater than or equal to 1" in failed.stderr


def test_commands_when_nothing_runs_say_how_to_start_it(fresh: System) -> None:
    for command in (
        ("recommend", "1"),
        ("models", "list"),
        ("events", "tail"),
        ("train",),
        ("dead-letters", "list"),
    ):
        failed = fresh.reco(*command, code=1)
        assert "reco up" in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr
