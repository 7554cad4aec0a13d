"""The command line against the running system: any table in, results as JSON, faults in words."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from redis import Redis

from tests.e2e.system import System, wait_until

pytestmark = pytest.mark.e2e

ROWS = [
    {"who": "table-1", "what": "50", "when": "2024-01-01T00:00:00Z", "stars": 5},
    {"who": "table-1", "what": "a new film", "when": "2024-01-02T00:00:00Z", "stars": 4},
    {"who": "table-2", "what": "50", "when": "2024-01-03T00:00:00Z", "stars": 9},  # not a rating from 1 to 5
]
MAPPING = ("--map=user=who", "--map=item=what", "--map=time=when", "--map=value=stars")


def write_table(path: Path) -> Path:
    """The rows in the format of the file's ending, and, where the format can hold one, a row that can't be read."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    if path.suffix == ".jsonl":
        lines = [json.dumps(row) for row in ROWS] + ["{torn"]
    else:
        lines = [
            "who,what,when,stars",
            *(",".join(str(v) for v in row.values()) for row in ROWS),
            ",50,2024-01-01,5",
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("ending", "set_aside"), [(".csv", 1), (".jsonl", 1), (".parquet", 0)])
def test_load_when_a_table_is_mapped_takes_the_good_rows_and_names_the_bad(
    system: System, tmp_path: Path, ending: str, set_aside: int
) -> None:
    path = write_table(tmp_path / f"events{ending}")
    result = system.reco_json("load", str(path), *MAPPING)
    # The three formats say the same: whichever comes first brings the events in, the others change nothing.
    assert result["events_accepted"] + result["events_duplicate"] == 2
    assert result["events_rejected"] == 1
    assert "a rating needs a value from 1 to 5" in result["rejected_samples"][0]["message"]
    assert result["rows_set_aside"] == set_aside
    again = system.reco_json("load", str(path), *MAPPING)
    assert (again["events_accepted"], again["events_duplicate"]) == (0, 2)


def test_evaluate_when_a_table_is_mapped_prints_every_model(system: System, tmp_path: Path) -> None:
    rows = [
        f"u{user},i{(user * 7 + n * n) % 23},{1_700_000_000 + n * 60 + user}"
        for user in range(30)
        for n in range(8)
    ]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user,item,time", *rows]))
    result = system.reco_json("evaluate", str(path), "--quick")
    assert result["data"]["events"] == 240
    assert list(result["models"]) == ["popularity", "item_knn", "ease", "ials", "vectorizer", "ranker"]
    assert all(0 <= m["ndcg_at_10"] <= m["recall_at_100"] <= 1 for m in result["models"].values())


def test_recommend_when_asked_for_json_prints_one_object(system: System) -> None:
    answer = system.reco_json("recommend", "1", "-n", "5", "--filter", 'categories:"Comedy" AND year >= 1990')
    assert len(answer["items"]) == 5
    assert set(answer) == {"items", "model_version", "attribution_token", "degradations"}
    with system.postgres() as connection:
        ids = [item["item_id"] for item in answer["items"]]
        found = connection.execute(
            "SELECT count(*) FROM items WHERE id = ANY(%s) AND 'Comedy' = ANY(categories)"
            " AND (numeric_attributes ->> 'year')::float >= 1990",
            (ids,),
        ).fetchone()
    assert found == (5,)


def test_recommend_when_the_filter_is_wrong_names_the_position(system: System) -> None:
    failed = system.reco("recommend", "1", "--filter", "year >=", code=1)
    assert "FILTER_INVALID" in failed.stderr
    assert "position" in failed.stderr


def test_models_when_trained_again_can_be_activated_and_rolled_back(system: System) -> None:
    before = [model["version"] for model in system.reco_json("models", "list")["models"]]
    run = system.reco_json("train", "--quick")
    assert run["state"] == "done"
    models = system.reco_json("models", "list")["models"]
    assert models[0]["version"] == run["model_version"] not in before
    assert models[0]["metrics"]["ranker_ndcg_at_10"] > 0.1
    system.reco("models", "activate", before[0])
    wait_until(lambda: system.reco_json("recommend", "1")["model_version"] == before[0])
    system.reco("models", "activate", run["model_version"])
    rolled_back = system.reco_json("models", "roll-back")["model"]
    assert (rolled_back["version"], rolled_back["state"]) == (before[0], "active")
    wait_until(lambda: system.reco_json("recommend", "1")["model_version"] == before[0])


def test_events_tail_when_asked_for_json_prints_the_newest(system: System) -> None:
    event = {
        "id": "tailed",
        "userId": "table-1",
        "itemId": "50",
        "type": "EVENT_TYPE_LIKE",
        "surface": "home",
    }
    system.rest.post("/v1/events:write", json={"events": [event]})
    lines = system.reco("events", "tail", "--no-follow", "-n", "1", "--json").stdout.splitlines()
    shown = json.loads(lines[-1])
    assert (shown["event_id"], shown["type"], shown["surface"]) == ("tailed", "like", "home")


def test_lake_when_events_were_written_lists_counts_and_verifies_them(system: System) -> None:
    sent = [
        {"id": f"lake-{i}", "userId": "lake-1", "itemId": "50", "type": "EVENT_TYPE_VIEW"} for i in range(5)
    ]
    system.rest.post("/v1/events:write", json={"events": sent})
    sql = "SELECT count(*), count(DISTINCT event_id) FROM events WHERE subject = 'u:lake-1'"
    wait_until(lambda: system.reco_json("lake", "query", sql)["rows"] == [[5, 5]])
    known = system.reco_json("lake", "query", "SELECT count(DISTINCT id) FROM items WHERE id = '50'")
    assert known["rows"] == [[1]]
    kinds = {day["kind"]: day["rows"] for day in system.reco_json("lake", "list")["days"]}
    report = system.reco_json("lake", "verify")
    assert kinds["events"] >= 5
    assert report["faults"] == []
    assert report["rows"] >= sum(kinds.values())


def test_dead_letters_when_the_stream_holds_rubbish_are_listed_and_replayed(system: System) -> None:
    note = json.loads((system.data_dir / "running.json").read_text())
    with Redis.from_url(note["redis_url"]) as redis:
        redis.xadd("reco:{events:0}", {"e": b"\xff not an event"})
    letters = wait_until(lambda: found if len(found := dead_letters(system)) == 3 else [])
    assert {letter["sink"] for letter in letters} == {"profile", "postgres", "lake"}
    assert system.reco_json("dead-letters", "replay", letters[0]["id"]) == {"replayed_count": 1}
    # It is no better than before: the sink sets it aside once more, under another id.
    again = wait_until(lambda: found if len(found := dead_letters(system)) == 3 else [])
    assert letters[0]["id"] not in {letter["id"] for letter in again}


def dead_letters(system: System) -> list[dict[str, str]]:
    found: list[dict[str, str]] = system.reco_json("dead-letters", "list")["dead_letters"]
    return found
