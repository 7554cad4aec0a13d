"""`python -m serving` as a process: not ready until warm, ready, stopped cleanly."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reco.ranking.v1 import ranking_service_pb2_grpc
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest

from serving.processes import LISTENING, WARM, Place
from serving.server import running
from tests.integration.serving.conftest import REPOSITORY, World

START_S_MAX = 120.0  # a first start compiles every kernel
POLL_S = 0.02
OWN = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own for each channel
CONNECTION_COUNT = 40  # all of them at one of two processes by chance: once in 2**39 runs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def process(
    world: World, port: int, metrics_base: int, module: str = "serving"
) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = world.settings
    environment = {
        **os.environ, "RECO_DATA_DIR": str(settings.data_dir), "RECO_REDIS_URL": settings.redis_url,
        "RECO_POSTGRES_URL": settings.postgres_url, "RECO_RANKING_PORT": str(port),
        "RECO_METRICS_PORT_BASE": str(metrics_base), "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen'}",
    }  # fmt: skip
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env=environment, cwd=REPOSITORY, stdout=pipe, stderr=pipe
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest())
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_process_when_started_gets_ready_answers_and_stops_on_sigterm(modelled: World) -> None:
    port, metrics_port = free_port(), free_port()
    async with (
        process(modelled, port, metrics_port - 2) as child,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(START_S_MAX):
            while not await is_serving(health):  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
        answer = await ranking_service_pb2_grpc.RankingServiceStub(channel).Recommend(RecommendRequest())
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        child.send_signal(signal.SIGTERM)
        code = await child.wait()
        assert child.stderr is not None
        log = (await child.stderr.read()).decode()
    assert answer.model_version
    assert f'reco_model_info{{version="{answer.model_version}"}} 1.0' in text
    assert 'reco_rpc_seconds_count{code="OK",method="Recommend"} 1.0' in text
    assert code == 0, log
    assert "Traceback" not in log
    assert '"event": "ready"' in log


async def test_health_when_kernels_are_not_warm_yet_is_not_serving(
    modelled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("serving.server.warm_up", go_on.wait)
    settings = modelled.settings.model_copy(update={"ranking_port": free_port()})
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(running(settings)))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{settings.ranking_port}")
        )
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="reco.ranking.v1.RankingService")
        before = await health.Check(request, wait_for_ready=True)
        go_on.set()
        await starting
        after = await health.Check(request)
    assert before.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert after.status == health_pb2.HealthCheckResponse.SERVING


async def test_process_when_store_url_is_missing_says_what_to_set(modelled: World) -> None:
    settings = modelled.settings.model_copy(update={"postgres_url": ""})
    world = World(settings, modelled.redis)
    async with process(world, free_port(), free_port()) as child:
        code = await asyncio.wait_for(child.wait(), START_S_MAX)
        assert child.stderr is not None
        log = (await child.stderr.read()).decode()
    assert code == 1
    assert "RECO_POSTGRES_URL is not set" in log
    assert "Traceback" not in log


async def test_process_when_ready_compiles_nothing_any_more(modelled: World) -> None:
    await modelled.see("u:ann", (await modelled.keys())[:5])
    async with process(modelled, free_port(), free_port(), "tests.integration.serving.cold_start") as child:
        output, log = await asyncio.wait_for(child.communicate(), START_S_MAX)
    assert child.returncode == 0, log.decode()
    # What the log says goes to standard output here; the result is the last line.
    result = json.loads(output.decode().splitlines()[-1])
    assert result["warm"] > 10
    assert result["late"] == {}


async def test_processes_when_one_is_killed_is_started_again_and_all_stop_on_sigterm(
    modelled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECO_RANKING_PROCESSES", "2")
    port, base = free_port(), free_port()
    async with process(modelled, port, base) as child:
        async with asyncio.timeout(START_S_MAX):
            while not await answers_anew(port):  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
        children = children_of(child.pid)
        os.kill(children[0], signal.SIGKILL)
        async with asyncio.timeout(START_S_MAX):
            while not set(children_of(child.pid)) - set(children):  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
        texts = [await metrics_of(base + offset) for offset in (2, 11)]
        both = children_of(child.pid)
        child.send_signal(signal.SIGTERM)
        code = await child.wait()
        assert child.stderr is not None
        log = (await child.stderr.read()).decode()
    assert len(children) == 2
    assert len(both) == 2
    assert all("reco_model_info" in text for text in texts)
    assert code == 0, log
    assert "Traceback" not in log
    assert "a process died" in log
    assert not any(is_running(pid) for pid in both)


async def test_processes_when_ready_each_get_connections(
    modelled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECO_RANKING_PROCESSES", "2")
    port, base = free_port(), free_port()
    async with process(modelled, port, base), AsyncExitStack() as stack:
        async with asyncio.timeout(START_S_MAX):
            while not await answers_anew(port):  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OWN))
            for _ in range(CONNECTION_COUNT)
        ]
        calls = [ranking_service_pb2_grpc.RankingServiceStub(each).Recommend for each in channels]
        await asyncio.gather(*[call(RecommendRequest()) for call in calls])
        texts = [await metrics_of(base + offset) for offset in (2, 11)]
    counts = [calls_in(text) for text in texts]
    assert sum(counts) == CONNECTION_COUNT
    assert min(counts) > 0


async def test_health_when_another_process_does_not_listen_yet_is_not_serving(modelled: World) -> None:
    states = mmap.mmap(-1, 2)
    states[1] = WARM
    settings = modelled.settings.model_copy(update={"ranking_port": free_port()})
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(running(settings, place=Place(0, states))))
        address = f"127.0.0.1:{settings.ranking_port}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        health = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(START_S_MAX):
            while states[0] != LISTENING:  # noqa: ASYNC110 - as another process would see it
                await asyncio.sleep(POLL_S)
        before = await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        states[1] = LISTENING
        await starting
        after = await health.Check(health_pb2.HealthCheckRequest())
    assert before.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert after.status == health_pb2.HealthCheckResponse.SERVING


async def test_processes_when_a_setting_is_missing_end_with_what_to_set(
    modelled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECO_RANKING_PROCESSES", "2")
    world = World(modelled.settings.model_copy(update={"postgres_url": ""}), modelled.redis)
    async with process(world, free_port(), free_port()) as child:
        _, log = await asyncio.wait_for(child.communicate(), START_S_MAX)
    assert child.returncode == 1
    assert b"RECO_POSTGRES_URL is not set" in log


async def test_processes_when_the_port_is_taken_say_so(
    modelled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECO_RANKING_PROCESSES", "2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with process(modelled, taken.getsockname()[1], free_port()) as child:
            _, log = await asyncio.wait_for(child.communicate(), START_S_MAX)
    assert child.returncode == 1
    assert b"RECO_RANKING_PORT" in log


def calls_in(text: str) -> int:
    """Recommend calls that a process has answered, from its metrics."""
    found = re.search(r'^reco_rpc_seconds_count\{code="OK",method="Recommend"\} (\S+)', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(part) for part in text.split()]


async def answers_anew(port: int) -> bool:
    """Over a connection of its own: with several processes, whichever gets it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OWN) as channel:
        return await is_serving(health_pb2_grpc.HealthStub(channel))


async def metrics_of(port: int) -> str:
    url = f"http://127.0.0.1:{port}/metrics"
    async with asyncio.timeout(START_S_MAX):
        while True:
            try:
                return await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
            except OSError:
                await asyncio.sleep(POLL_S)
