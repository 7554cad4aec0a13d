"""The flood against a real server of gRPC's own, whose calls it has to tell apart."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from bench.load import flood, http2, runs
from bench.load.__main__ import main
from bench.load.schedule import draw
from tests.unit.bench_load.servers import grpc_server

USERS = [f"u{number}" for number in range(10)]


async def flooded(rate: float, sheddable_share: float, stall: Any) -> dict[str, Any]:
    async with grpc_server(stall) as target:
        plan = runs.Plan(USERS, seconds=0.5, warm_up_s=0.1, seed=7, connections=3)
        found: dict[str, Any] = await asyncio.to_thread(
            runs.flood_run, target, plan, rate, "poisson", sheddable_share
        )
        return found


async def test_flood_when_the_server_answers_counts_every_call_that_was_due() -> None:
    async def no_stall() -> None: ...

    found = await flooded(400, 0.25, no_stall)
    schedule = draw(400, 0.5, 0.1, len(USERS), 7)
    due = int((schedule.times_s >= 0.1).sum())
    calls = [found[name]["calls"] for name in flood.PRIORITIES]
    assert sum(calls) == due
    assert 0 < calls[1] < calls[0]
    assert [set(found[name]["statuses"]) for name in flood.PRIORITIES] == [{"OK"}, {"OK"}]
    assert found["normal"]["accepted_ms"]["p50"] > 0
    assert found["normal"]["refused_ms"] == {}


async def test_flood_when_the_server_never_answers_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood, "DRAIN_S", 0.1)
    found = await flooded(100, 0.0, asyncio.Event().wait)
    assert set(found["normal"]["statuses"]) == {http2.LOST}
    assert found["normal"]["accepted_per_s"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "http://127.0.0.1:1"], "grpc://"),
        (["--target", "grpc://127.0.0.1:1", "--sheddable-share", "1.5"], "sheddable share"),
        (["--target", "grpc://127.0.0.1:1", "--rate", "1e9"], "rate"),
        (["--target", "grpc://127.0.0.1:1"], "does not take the calls"),
    ],
)
def test_flood_when_it_is_asked_for_what_can_not_be_says_what(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["flood", "--rate", "10", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_header_block_when_read_has_the_path_and_every_field() -> None:
    block = http2.header_block("/a.B/C", (("name", "value"),))
    assert block[:2] == http2.POST + http2.HTTP
    for text in (b"\x05:path\x06/a.B/C", b"\x04name\x05value", b"\x02te\x08trailers"):
        assert text in block


def test_message_when_it_is_framed_has_its_length() -> None:
    assert http2.message(b"abc") == b"\0" + struct.pack(">I", 3) + b"abc"
