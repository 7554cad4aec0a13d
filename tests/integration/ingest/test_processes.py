"""The two processes as an operator starts them: serving, measured, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from redis.asyncio import Redis

from ingest.lag import lags
from runtime.lifecycle import EXIT_ERROR, EXIT_USAGE
from tests.integration.ingest.harness import CAUGHT_UP_WAIT_S_MAX, Ingest, free_port
from tests.integration.ingest.samples import event, items

STOP_WAIT_S_MAX = 30.0
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def environment(redis: Redis, valkey: str, postgres: str, tmp_path: Path) -> dict[str, str]:
    """The settings of a small system of its own."""
    settings = {
        "REDIS_URL": valkey, "POSTGRES_URL": postgres, "DATA_DIR": str(tmp_path), "PARTITION_COUNT": "2",
        "INGEST_PORT": str(free_port()), "METRICS_PORT_BASE": str(free_port()),
    }  # fmt: skip
    path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'gen'}"
    return os.environ | {f"RECO_{name}": value for name, value in settings.items()} | {"PYTHONPATH": path}


def start(module: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module], env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def processes(environment: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    started = [start(module, environment) for module in ("ingest", "ingest.consumer_main")]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Asks the process to end; its exit code and its log."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=STOP_WAIT_S_MAX)
    return process.returncode, log


async def test_events_pass_through_the_processes_and_their_metrics_tell(
    processes: list[subprocess.Popen[str]], environment: dict[str, str], ingest: Ingest
) -> None:
    address = f"127.0.0.1:{environment['RECO_INGEST_PORT']}"
    async with grpc.aio.insecure_channel(address) as channel:
        stub = IngestServiceStub(channel)
        await stub.UpsertItems(items(), wait_for_ready=True)
        await stub.WriteEvents(WriteEventsRequest(events=[event() for _ in range(20)]))
        await ingest.caught_up()
        port = int(environment["RECO_METRICS_PORT_BASE"])
        told = [metrics(port), metrics(port + 1)]

    assert 'reco_events_total{outcome="accepted"} 20.0' in told[0]
    assert 'reco_rpc_seconds_count{code="OK",method="WriteEvents"} 1.0' in told[0]
    assert "reco_freshness_seconds_count" in told[1]
    assert 'reco_sink_lag_events{partition="1",sink="lake"}' in told[1]
    assert not any((await lags(ingest.redis, 2))["lake"].values())
    for process in processes:
        code, log = stopped(process)
        assert (code, "Traceback" in log) == (0, False), log


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=CAUGHT_UP_WAIT_S_MAX) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize(
    ("setting", "value", "code", "words"),
    [
        (
            "RECO_PARTITION_COUNT",
            "0",
            EXIT_USAGE,
            "RECO_PARTITION_COUNT: Input should be greater than or equal to 1",
        ),
        ("RECO_REDIS_URL", "", EXIT_ERROR, "RECO_REDIS_URL is not set"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_what_to_do(
    environment: dict[str, str], setting: str, value: str, code: int, words: str
) -> None:
    process = start("ingest.consumer_main", environment | {setting: value})
    _, log = process.communicate(timeout=STOP_WAIT_S_MAX)

    assert process.returncode == code
    assert words in log
    assert "Traceback" not in log
