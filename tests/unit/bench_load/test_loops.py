"""Open and closed loops against real servers on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jsonschema
import numpy as np
import pytest

from bench.load import closed_loop, open_loop
from bench.load.answer import OK, Answer, Caller
from bench.load.histogram import Histogram
from bench.load.recording import UNFINISHED, UNSENT, Recording
from bench.load.result import SCHEMA, result_of
from bench.load.schedule import Schedule, draw
from bench.load.session import caller_of
from bench.load.target import Target, parse
from tests.unit.bench_load.servers import grpc_server, http_server

USERS = [f"user-{number}" for number in range(8)]
STALL_S = 0.2


class Stalling:
    """One stall of the whole server: from one request on, nobody is answered for STALL_S."""

    def __init__(self, at_request: int) -> None:
        self._left = at_request
        self._open = asyncio.Event()
        self._open.set()

    async def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._open.clear()
            asyncio.get_running_loop().call_later(STALL_S, self._open.set)
        await self._open.wait()


@asynccontextmanager
async def calling(target: Target, connections: int = 2, timeout_s: float = 2.0) -> AsyncIterator[Caller]:
    caller = caller_of(target, USERS, connections, timeout_s)
    try:
        yield caller
    finally:
        await caller.close()


def steady(rate: float, seconds: float, warm_up_s: float = 0.0) -> Schedule:
    return draw(rate, seconds, warm_up_s, len(USERS), seed=1, arrivals="constant")


async def open_over_stall(target: Target, rate: float = 200) -> Recording:
    async with calling(target) as caller:
        return await open_loop.run(steady(rate, 1.0), caller)


async def test_open_loop_when_the_http_server_stalls_shows_it_in_full() -> None:
    async with http_server(Stalling(50)) as target:
        record = await open_over_stall(target)
    latency = Histogram(record.latency_s)
    assert record.statuses[OK] == record.statuses.total() == 199
    # 40 calls, a fifth of all, were due during the stall: they waited for what was left of it.
    assert latency.at(99) > 0.9 * STALL_S * 1000
    assert latency.at(95) > 0.6 * STALL_S * 1000
    assert record.in_flight_max >= 30


async def test_open_loop_when_the_grpc_server_stalls_shows_it_in_full() -> None:
    async with grpc_server(Stalling(50)) as target:
        record = await open_over_stall(target)
    assert record.statuses[OK] == 199
    assert Histogram(record.latency_s).at(95) > 0.6 * STALL_S * 1000


async def test_closed_loop_when_the_server_stalls_sees_it_once() -> None:
    async with http_server(Stalling(50)) as target, calling(target) as caller:
        record = await closed_loop.run(caller, 1, 1.0, 0.0, len(USERS), seed=1)
    waited = sum(latency_s > 0.5 * STALL_S for latency_s in record.latency_s)
    assert record.statuses[OK] > 50
    assert waited == 1, (
        "a naive closed loop asks nothing meanwhile: the omission that the open loop does not make"
    )


async def test_open_loop_when_the_client_is_held_up_reports_its_own_lateness() -> None:
    class Blocking:
        """Holds the generator's own loop up once, as a busy core would."""

        def __init__(self, event: asyncio.Event) -> None:
            self._event = event

        async def call(self, user: int) -> Answer:
            loop = asyncio.get_running_loop()
            if not self._event.is_set():
                self._event.set()
                until_s = loop.time() + STALL_S
                while loop.time() < until_s:
                    pass
            return Answer(OK, loop.time(), "")

        async def close(self) -> None: ...

    record = await open_loop.run(steady(200, 0.5), Blocking(asyncio.Event()))
    result = result_of(record, "open", "grpc://test", offered_per_s=200)
    assert result.late_ms["max"] > 0.8 * STALL_S * 1000
    assert result.latency_ms["max"] > 0.8 * STALL_S * 1000
    assert "the generator was late" in result.warnings[0]


async def test_counts_add_up_and_warm_up_is_left_out() -> None:
    schedule = steady(200, 0.5, warm_up_s=0.25)
    async with http_server() as target, calling(target) as caller:
        record = await open_loop.run(schedule, caller)
    assert record.statuses.total() == np.count_nonzero(schedule.times_s >= 0.25)
    assert len(record.latency_s) == len(record.late_s) == record.statuses[OK]
    assert len(record.server_timings) == record.statuses[OK]
    assert record.in_flight == 0


async def test_open_loop_when_too_many_are_in_flight_counts_the_unsent() -> None:
    async with http_server(asyncio.Event().wait) as target, calling(target, timeout_s=0.3) as caller:
        record = await open_loop.run(steady(200, 0.25), caller, in_flight_max=5, timeout_s=0.3)
    assert record.statuses[UNSENT] > 0
    assert record.statuses.total() == 49
    assert record.in_flight_max == 5
    assert any("never sent" in text for text in result_of(record, "open", target.name).warnings)


async def test_open_loop_when_nothing_answers_ends_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "DRAIN_S", 0.1)

    class Silent:
        async def call(self, user: int) -> Answer:
            return await asyncio.get_running_loop().create_future()

        async def close(self) -> None: ...

    record = await open_loop.run(steady(100, 0.2), Silent(), timeout_s=0.1)
    assert record.statuses == {UNFINISHED: 19}
    assert len(record.latency_s) == 19, "their wait counts: it is the least that it was"


@pytest.mark.parametrize("serving", [http_server, grpc_server])
async def test_target_that_goes_away_is_counted_as_errors(serving: object) -> None:
    async with serving() as target, calling(target, timeout_s=0.5) as caller:  # type: ignore[operator]  # one of the two
        assert (await caller.call(0)).status == OK
    async with calling(target, timeout_s=0.5) as caller:
        record = await open_loop.run(steady(100, 0.2), caller, timeout_s=0.5)
    result = result_of(record, "open", target.name)
    assert set(result.statuses) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert result.calls == 19
    assert result.achieved_per_s == 0


async def test_http_error_is_a_status_and_no_latency() -> None:
    async with http_server(status="503 Busy") as target, calling(target) as caller:
        record = await closed_loop.run(caller, 2, 0.2, 0.0, len(USERS), seed=1)
    result = result_of(record, "closed", target.name, callers=2)
    assert list(result.statuses) == ["HTTP_503"]
    assert result.latency_ms == {}


async def test_interleaved_run_calls_both_as_often() -> None:
    async with http_server() as first, grpc_server() as second, calling(first) as a, calling(second) as b:
        records = await closed_loop.run_interleaved([a, b], 20, 3, len(USERS), seed=1)
    assert [record.statuses for record in records] == [{OK: 20}, {OK: 20}]


async def test_result_of_a_run_follows_its_schema() -> None:
    async with grpc_server() as target, calling(target) as caller:
        record = await open_loop.run(steady(200, 0.25), caller)
    result = result_of(record, "open", target.name, offered_per_s=200, seconds=0.25)
    text = json.dumps(result.to_json())
    jsonschema.validate(json.loads(text), SCHEMA)
    assert result.stages_ms["total"]["p50"] == pytest.approx(0.5, rel=0.01)
    assert Histogram.decoded(result.histogram).count == 49


async def test_users_differ_by_the_seed_alone() -> None:
    first, same, other = (draw(100, 1, 0, 1_000, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.times_s, same.times_s)
    assert np.array_equal(first.users, same.users)
    assert not np.array_equal(first.users[:20], other.users[:20])


def test_parse_keeps_the_template_of_another_recommender() -> None:
    target = parse("http://127.0.0.1:80/api/{user_id}?n=20", "POST", '{"u":"{user_id}"}', ("X-Key: a",))
    assert (target.path, target.method, target.headers) == ("/api/{user_id}?n=20", "POST", {"X-Key": "a"})
