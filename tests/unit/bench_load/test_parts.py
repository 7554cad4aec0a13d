"""Targets, schedules, histograms, Server-Timing, users, h2load's text: without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reco.ranking.v1.ranking_service_pb2 import RankItemsRequest

from bench.load import h2load, server_timing, users
from bench.load.__main__ import main
from bench.load.grpc_client import CANDIDATES, requests_of
from bench.load.histogram import Histogram
from bench.load.http_client import request_bytes
from bench.load.schedule import draw
from bench.load.target import ITEMS_DEFAULT, RPCS, TargetError, parse

H2LOAD = """
finished in 3.00s, 6766.00 req/s, 1.21MB/s
requests: 20298 total, 20306 started, 20298 done, 20298 succeeded, 0 failed, 0 errored, 0 timeout
                     min         max         mean         sd        +/- sd
time for request:      242us      5.82ms      1.18ms       161us    91.67%
"""


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("127.0.0.1:8082", "neither grpc:// nor http://"),
        ("grpc://127.0.0.1", "a host and a port"),
        ("grpc://127.0.0.1:99999", "no readable host and port"),
        ("grpc://127.0.0.1:8082/Delete", "no known call"),
        ("http://8.8.8.8:80/x", "neither loopback nor private"),
    ],
)
def test_target_that_is_malformed_or_not_ours_says_why(url: str, part: str) -> None:
    with pytest.raises(TargetError, match=part):
        parse(url)


def test_public_target_is_taken_when_the_caller_owns_it() -> None:
    assert parse("http://8.8.8.8:80/x", is_owned=True).host == "8.8.8.8"


def test_header_with_a_line_break_is_refused() -> None:
    with pytest.raises(TargetError, match="Name: value"):
        parse("http://127.0.0.1:80/x", headers=("A: b\r\nC: d",))


def test_main_with_a_bad_target_exits_2_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["open", "--target", "ftp://x", "--rate", "1"]) == 2
    assert capsys.readouterr().err.startswith("bench.load: 'ftp://x'")


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1e9, 1), (10, 0), (10, 1e6), (20_000, 100)])
def test_schedule_out_of_bounds_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"at most"):
        draw(rate, seconds, 0, 10, 1)


def test_poisson_arrivals_have_their_rate_and_spread() -> None:
    gaps = np.diff(draw(1_000, 30, 0, 10, seed=3).times_s)
    assert gaps.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps.std() == pytest.approx(1e-3, rel=0.05), "an exponential's deviation is its mean"


def test_percentiles_agree_with_numpy() -> None:
    seconds = np.random.default_rng(5).lognormal(-7, 1, 20_000)
    found = Histogram(seconds).percentiles()
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
        exact = float(np.quantile(seconds, share, method="inverted_cdf")) * 1000
        assert found[name] == pytest.approx(exact, rel=2e-3, abs=1e-3)
    assert found["max"] == pytest.approx(seconds.max() * 1000, rel=2e-3)


def test_histogram_of_nothing_has_no_percentiles() -> None:
    assert Histogram().percentiles() == {}


def test_encoded_histogram_is_read_back() -> None:
    histogram = Histogram([0.001, 0.002, 0.2])
    assert Histogram.decoded(histogram.encoded()).percentiles() == histogram.percentiles()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("profile;dur=0.081, total;dur=0.512", {"profile": 0.081, "total": 0.512}),
        ('db;desc="a, b; dur=9";dur=2, miss', {"db": 2.0}),
        ('cache;DUR="1.5"', {"cache": 1.5}),
        ("a;dur=x, b;dur=nan, c;dur=-1, ;dur=1", {}),
        ("", {}),
    ],
)
def test_server_timing_keeps_readable_durations(text: str, expected: dict[str, float]) -> None:
    assert server_timing.parse(text) == expected


def test_request_bytes_encode_the_user_in_the_path_and_not_in_the_body() -> None:
    target = parse("http://127.0.0.1:80/of/{user_id}", "POST", '{"user": "{user_id}"}')
    sent = request_bytes(target, "a/b")
    assert sent.startswith(b"POST /of/a%2Fb HTTP/1.1\r\nContent-Type: application/json\r\nHost: 127.0.0.1:80")
    assert sent.endswith(b'Content-Length: 15\r\n\r\n{"user": "a/b"}')


def test_users_come_from_a_file_or_a_number(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("a\n\nb\n")
    assert users.read(str(tmp_path / "ids")) == ["a", "b"]
    assert users.read("2") == ["user-0000000", "user-0000001"]
    with pytest.raises(ValueError, match="can't be read"):
        users.read(str(tmp_path / "none"))


def test_h2load_text_is_read() -> None:
    found = h2load.parse(H2LOAD)
    assert (found["achieved_per_s"], found["succeeded"], found["failed"]) == (6766.0, 20298, 0)
    assert found["latency_ms"] == {"min": 0.242, "max": 5.82, "mean": 1.18, "sd": 0.161}


def test_h2load_that_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(h2load.MissingError, match="apt-get install -y nghttp2-client"):
        h2load.run(parse("grpc://127.0.0.1:1"), ["a"], 8, 8, 1)


def test_frame_is_a_flag_a_length_and_the_message() -> None:
    assert h2load.frame(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_target_of_rank_items_says_how_many_items_there_are() -> None:
    assert parse("grpc://127.0.0.1:1/RankItems?items=50").items == 50
    assert parse("grpc://127.0.0.1:1/RankItems").items == ITEMS_DEFAULT


@pytest.mark.parametrize("query", ["items=0", "items=x", "users=3", "items=1&items=2"])
def test_target_with_another_query_is_refused(query: str) -> None:
    with pytest.raises(TargetError, match="items=N"):
        parse(f"grpc://127.0.0.1:1/RankItems?{query}")


def test_requests_of_rank_items_name_a_hundred_generated_items() -> None:
    made = requests_of(RPCS["RankItems"], ["user-0000001"], 30)
    request = RankItemsRequest.FromString(made[0])
    assert request.user_id == "user-0000001"
    assert len(request.item_ids) == CANDIDATES
    assert set(request.item_ids) <= {f"item-{key:08d}" for key in range(1, 31)}
