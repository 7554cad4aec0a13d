"""The main job over the public interfaces: load, train, answer, and count the next event."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from typing import Any

import pytest

from tests.e2e.system import REPOSITORY, System, wait_until

pytestmark = pytest.mark.e2e

GENRE = "Animation"  # 42 of 1,682 films: rare enough that it is no accident when it comes up
CLICK_COUNT = 6


def recommended(system: System, user: str, **parameters: Any) -> dict[str, Any]:
    answer = system.rest.get(f"/v1/users/{user}/recommendations", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def written(system: System, user: str, item: str, kind: str = "EVENT_TYPE_CLICK") -> str:
    """Writes one event over REST and returns its offset."""
    event = {"id": uuid.uuid4().hex, "userId": user, "itemId": item, "type": kind}
    answer = system.rest.post("/v1/events:write", json={"events": [event]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["acceptedCount"] == 1, answer.text
    return str(answer.json()["offset"])


def films_of(system: System, genre: str) -> list[str]:
    with system.postgres() as connection:
        rows = connection.execute(
            "SELECT i.id FROM items i JOIN events e ON e.item_key = i.key WHERE %s = ANY(i.categories)"
            " GROUP BY i.id ORDER BY count(*) DESC, i.id",
            (genre,),
        ).fetchall()
    return [row[0] for row in rows]


def test_load_when_all_rows_are_good_accepts_every_event_once(system: System) -> None:
    assert system.loaded["events_accepted"] == 100_000
    assert system.loaded["items_created"] == 1_682
    assert system.loaded["events_rejected"] == system.loaded["rows_set_aside"] == 0
    with system.postgres() as connection:
        wait_until(
            lambda: (
                connection.execute("SELECT count(*) FROM events WHERE user_id ~ '^[0-9]+$'").fetchone()
                == (100_000,)
            )
        )


def test_recommend_when_user_has_a_history_is_personal_and_unseen(system: System) -> None:
    answer = recommended(system, "1", pageSize=50)
    with system.postgres() as connection:
        seen = {row[0] for row in connection.execute("SELECT item_id FROM events WHERE user_id = '1'")}
    items = [item["itemId"] for item in answer["items"]]
    assert len(set(items)) == 50
    assert not seen & set(items)
    assert {item["source"] for item in answer["items"]} & {"SOURCE_PERSONAL", "SOURCE_SIMILAR"}
    assert answer["degradations"] == []
    assert answer["modelVersion"]


def test_recommend_when_users_differ_gives_different_answers(system: System) -> None:
    answers = {tuple(i["itemId"] for i in recommended(system, str(user))["items"]) for user in range(1, 21)}
    assert len(answers) == 20


def test_recommend_when_user_is_unknown_gives_popular_or_trending(system: System) -> None:
    answer = recommended(system, f"nobody-{uuid.uuid4()}")
    assert len(answer["items"]) == 20
    assert {item["source"] for item in answer["items"]} <= {"SOURCE_POPULAR", "SOURCE_TRENDING", "SOURCE_NEW"}


def test_recommend_when_a_few_films_of_a_genre_are_clicked_turns_to_that_genre(system: System) -> None:
    films = films_of(system, GENRE)
    user = f"visitor-{uuid.uuid4()}"
    before = recommended(system, user)
    offsets = [written(system, user, film) for film in films[:CLICK_COUNT]]
    after = recommended(system, user, minimumOffset=offsets[-1])
    share_before = sum(item["itemId"] in films for item in before["items"])
    share_after = sum(item["itemId"] in films for item in after["items"])
    assert after["degradations"] == []
    assert share_after >= share_before + 4, (share_before, share_after)


def test_recommend_when_one_event_more_is_written_the_very_next_answer_counts_it(system: System) -> None:
    user = f"visitor-{uuid.uuid4()}"
    offset = written(system, user, films_of(system, GENRE)[0])
    answer = recommended(system, user, minimumOffset=offset)
    first = answer["items"][0]["itemId"]
    offset = written(system, user, first, "EVENT_TYPE_PURCHASE")
    following = recommended(system, user, minimumOffset=offset)
    assert first not in [item["itemId"] for item in following["items"]]
    assert following["items"] != answer["items"][1:]  # not only left out: the others moved


def test_similar_when_an_item_is_known_lists_others(system: System) -> None:
    answer = system.rest.get("/v1/items/50/similar", params={"pageSize": 5}).json()  # Star Wars
    items = [item["itemId"] for item in answer["items"]]
    assert len(items) == 5
    assert "50" not in items
    assert set(items) & {"172", "181"}  # its two sequels


def test_rank_items_when_candidates_are_given_orders_them_for_the_user(system: System) -> None:
    request = {"userId": "1", "itemIds": ["300", "301", "302", "no such film", "303"]}
    answer = system.rest.post("/v1/items:rank", json=request).json()
    scores = [item["score"] for item in answer["items"]]
    assert sorted(item["itemId"] for item in answer["items"]) == ["300", "301", "302", "303"]
    assert scores == sorted(scores, reverse=True)
    assert answer["unknownItemIds"] == ["no such film"]


def test_deleted_item_when_deleted_leaves_the_answers(system: System) -> None:
    user = f"visitor-{uuid.uuid4()}"
    item = recommended(system, user)["items"][0]["itemId"]
    with system.postgres() as connection:
        title = connection.execute("SELECT title FROM items WHERE id = %s", (item,)).fetchone()
    assert system.rest.post("/v1/items:delete", json={"itemIds": [item]}).json()["deletedCount"] == 1
    wait_until(lambda: item not in [i["itemId"] for i in recommended(system, user)["items"]])
    restored = {"id": item, "title": title[0] if title else "", "categories": ["Drama"]}
    assert system.rest.post("/v1/items:upsert", json={"items": [restored]}).status_code == 200


def test_pasted_lines_when_run_as_printed_answer(system: System) -> None:
    lines = system.said().splitlines()
    curl = next(line for line in lines if line.startswith("curl "))
    python = next(line for line in lines if line.startswith("python3 "))
    grpcurl = next(line for line in lines if line.startswith("grpcurl "))
    assert json.loads(pasted(curl))["items"]
    assert "itemId" in pasted(python)
    # grpcurl asks by reflection, with the words of the line: the same call by the same means.
    data, address, method = re.fullmatch(r"grpcurl -plaintext -d '(.*)' (\S+) (\S+)", grpcurl).groups()  # type: ignore[union-attr]
    assert by_reflection(address, method, json.loads(data))["items"]


def pasted(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True, timeout=60).stdout


def by_reflection(address: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """A call that knows nothing but what the server's reflection tells, as grpcurl makes it."""
    script = REPOSITORY / "tests" / "e2e" / "reflected_call.py"
    command = [sys.executable, str(script), address, method, json.dumps(request)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, cwd="/", env={"PATH": "/usr/bin"}
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_metrics_when_asked_count_what_happened(system: System) -> None:
    base = system.ports["METRICS_PORT_BASE"]
    texts = [system.rest.get(f"http://127.0.0.1:{base + n}/metrics").text for n in range(4)]
    assert 'reco_rpc_seconds_count{code="OK",method="WriteEvents"}' in texts[0]
    assert "reco_freshness_seconds_count" in texts[1]
    assert 'reco_sink_lag_events{partition="0",sink="lake"}' in texts[1]
    assert 'reco_stage_seconds_count{stage="score"}' in texts[2]
    assert "reco_gateway_seconds_count" in system.rest.get("/metrics").text
