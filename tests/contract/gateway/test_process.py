"""`python -m gateway` starts, answers, stops, and refuses what is unsafe."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 30.0


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", **settings}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.test", "192.0.2.1"])
def test_start_when_host_is_not_loopback_is_refused_with_a_reason(host: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT, env=environment(RECO_HOST=host), capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "RECO_HOST: there is no authentication yet" in done.stderr
    assert "Traceback" not in done.stderr


def test_stop_when_asked_by_a_signal_is_clean() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT, env=environment(RECO_GATEWAY_PORT="0"), stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    with process, process.stderr:
        started = orjson.loads(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert started["event"] == "gateway answers"
    assert started["port"] > 0
    assert process.returncode == 0
    assert b"Traceback" not in rest


def test_start_when_the_port_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "gateway"],
            cwd=ROOT, env=environment(RECO_GATEWAY_PORT=port), capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr
