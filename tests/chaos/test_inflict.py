"""Faults that overlap: what the last of them undoes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.chaos.inflict import Inflictor
from bench.chaos.schedule import Fault
from tests.e2e.system import wait_until

Child = subprocess.Popen[bytes]


@pytest.fixture
def children() -> Iterator[list[Child]]:
    """Two processes that do nothing."""
    made = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]
    yield made
    for child in made:
        child.kill()
        child.wait()


def is_stopped(child: Child) -> bool:
    return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_process_that_took_the_place_of_a_stopped_one_goes_on_with_the_last_stop(
    children: list[Child],
) -> None:
    now = [children[0]]

    def pid(_: str) -> int:
        return now[0].pid

    system = SimpleNamespace(pid=pid, pids=lambda name: [pid(name)])
    inflictor = Inflictor(system)  # type: ignore[arg-type]  # what it asks for
    inflictor._inflict(Fault(0.0, "stop", "consumer-1", 600.0))
    wait_until(lambda: is_stopped(children[0]))
    now[0] = children[1]
    inflictor._inflict(Fault(0.0, "stop", "consumer-1", 300.0))
    wait_until(lambda: is_stopped(children[1]))
    inflictor.undo_all()
    wait_until(lambda: not is_stopped(children[1]) and not is_stopped(children[0]))
