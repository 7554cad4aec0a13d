"""The embedded stores: up, killed, up again; nothing lost, nothing left over."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
import redis

from runtime import child, stores
from runtime.errors import StateError
from runtime.stores import EmbeddedPostgres, EmbeddedValkey

GONE_WAIT_S_MAX = 20.0

SUPERVISOR = """
import sys, signal
from pathlib import Path
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
stores = [EmbeddedValkey(Path(sys.argv[1])), EmbeddedPostgres(Path(sys.argv[1]))]
for store in stores:
    store.start()
print(*(store.pid for store in stores), flush=True)
signal.pause()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="reco-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def valkey_store(data_dir: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(data_dir)
    yield server
    server.stop()


@pytest.fixture
def postgres_store(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir)
    yield server
    server.stop()


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another process does; fails when it takes too long."""
    deadline_s = time.monotonic() + GONE_WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; a zombie that nobody has collected has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_valkey_killed_and_started_again_has_all_and_the_same_address(valkey_store: EmbeddedValkey) -> None:
    url = valkey_store.start()
    with redis.from_url(url) as client:
        client.set("a", "1")
    kill(valkey_store.pid)

    assert valkey_store.start() == url
    with redis.from_url(url) as client:
        assert client.get("a") == b"1"
        assert client.config_get("appendfsync", "maxmemory-policy") == {
            "appendfsync": "always", "maxmemory-policy": "noeviction",
        }  # fmt: skip


def test_postgres_killed_with_open_sessions_starts_again_over_its_stale_pid_file(
    postgres_store: EmbeddedPostgres, data_dir: Path
) -> None:
    url = postgres_store.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 42 AS answer")
        kill(postgres_store.pid)
    # The pid of a process that lives: the server alone would take it for a running one and refuse.
    for pid_file in (data_dir / "postgres" / "postmaster.pid", data_dir / "run" / ".s.PGSQL.5432.lock"):
        lines = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{os.getppid()}\n", *lines[1:]]))

    assert postgres_store.start() == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT answer FROM t").fetchone() == (42,)


def test_stopped_stores_are_gone_and_say_so(
    valkey_store: EmbeddedValkey, postgres_store: EmbeddedPostgres
) -> None:
    for store in (valkey_store, postgres_store):
        store.start()
        pid = store.pid
        assert store.is_ready()
        store.stop()
        assert pid is not None
        assert is_gone(pid)
        assert not store.is_ready()
        assert store.pid is None


def test_stores_end_with_a_killed_supervisor_and_the_next_one_takes_over(data_dir: Path) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 2
        supervisor.kill()

    successor = EmbeddedPostgres(data_dir)  # started at once: it waits for the lock of the one that ends
    successor.start()
    successor.stop()
    until(lambda: all(map(is_gone, pids)))


def test_sockets_are_closed_to_other_users(postgres_store: EmbeddedPostgres, data_dir: Path) -> None:
    postgres_store.start()

    assert stat.S_IMODE(stores.socket_folder(data_dir).stat().st_mode) == 0o700


def test_a_second_server_on_the_same_folder_is_refused(
    valkey_store: EmbeddedValkey, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOCK_WAIT_S_MAX", 0.1)
    valkey_store.start()

    with pytest.raises(StateError, match="another server runs on"):
        EmbeddedValkey(data_dir).start()
    assert valkey_store.is_ready()


def test_a_server_that_can_t_start_says_why(valkey_store: EmbeddedValkey, data_dir: Path) -> None:
    log = data_dir / "valkey" / "appendonlydir"
    log.parent.mkdir()
    log.write_text("a file where Valkey wants a folder")

    with pytest.raises(StateError, match=r"valkey did not start; .*appendonlydir"):
        valkey_store.start()


def test_a_data_folder_with_a_long_name_still_has_sockets(data_dir: Path) -> None:
    deep = data_dir / ("long" * 30)
    server = EmbeddedValkey(deep)
    try:
        assert str(deep) not in server.start()
    finally:
        server.stop()
        shutil.rmtree(stores.socket_folder(deep))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has somebody else to run it as")
def test_as_root_postgres_runs_as_somebody_else(postgres_store: EmbeddedPostgres) -> None:
    postgres_store.start()

    assert Path(f"/proc/{postgres_store.pid}").stat().st_uid != 0


async def test_a_store_starts_again_from_a_process_that_is_busy_with_grpc(
    valkey_store: EmbeddedValkey,
) -> None:
    valkey_store.start()
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(10):  # a fork that copies gRPC's threads crashed one time in three
            calls = [asyncio.ensure_future(refused(channel)) for _ in range(20)]
            await asyncio.sleep(0)
            kill(valkey_store.pid)
            valkey_store.start()
            assert await asyncio.gather(*calls) == [grpc.StatusCode.UNIMPLEMENTED] * 20
    await server.stop(None)


async def refused(channel: grpc.aio.Channel) -> grpc.StatusCode:
    """The code of a call that the server does not know."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary("/nothing/Nothing")(b"")
    return raised.value.code()
