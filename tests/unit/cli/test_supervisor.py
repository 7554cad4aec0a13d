"""What dies is started again, at a pace that slows down; the clock is the test's."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from reco.errors.v1 import error_reason_pb2

from cli.supervisor import BACKOFF_S_MAX, BACKOFF_S_MIN, STEADY_S, Supervisor, Unit, make_units
from runtime.errors import StateError
from runtime.settings import Settings


class Fake:
    """A unit without a process: it notes what is asked of it."""

    def __init__(self, name: str = "fake", said: list[str] | None = None) -> None:
        self.pid: int | None = None
        self.start_count = 0
        self.fails = False
        self._name = name
        self._said = [] if said is None else said

    def start(self) -> None:
        self.start_count += 1
        self._said.append(f"start {self._name}")
        if self.fails:
            raise StateError(error_reason_pb2.ERROR_REASON_INTERNAL, "it does not start")
        self.pid = 1

    def stop(self) -> None:
        self.pid = None
        self._said.append(f"stop {self._name}")

    def is_ready(self) -> bool:
        return self.pid is not None


def test_look_after_when_a_unit_died_starts_it_again_after_the_pause() -> None:
    fake = Fake()
    supervisor = Supervisor([unit := Unit("fake", fake, started_s=100.0)])
    supervisor.look_after(101.0)
    supervisor.look_after(101.0 + BACKOFF_S_MIN / 2)
    assert fake.start_count == 0
    supervisor.look_after(101.0 + BACKOFF_S_MIN)
    assert (fake.start_count, unit.restart_count) == (1, 1)
    supervisor.look_after(200.0)
    assert fake.start_count == 1  # it lives


def pauses_s(supervisor: Supervisor, fake: Fake, unit: Unit, count: int) -> list[float]:
    """The pauses before `count` restarts of a unit that dies at once each time."""
    found = []
    now_s = 1000.0
    for _ in range(count):
        fake.pid = None
        supervisor.look_after(now_s)
        found.append(round(unit.restart_s - now_s, 6))
        now_s = unit.restart_s
        supervisor.look_after(now_s)
    return found


def test_look_after_when_a_unit_dies_again_and_again_waits_longer_up_to_a_bound() -> None:
    unit = Unit("fake", fake := Fake(), started_s=999.0)
    found = pauses_s(Supervisor([unit]), fake, unit, 8)
    assert found[:4] == [BACKOFF_S_MIN * factor for factor in (1, 2, 4, 8)]
    assert found[-1] == BACKOFF_S_MAX


def test_look_after_when_a_unit_lived_long_starts_over_with_the_short_pause() -> None:
    unit = Unit("fake", fake := Fake(), started_s=999.0)
    supervisor = Supervisor([unit])
    pauses_s(supervisor, fake, unit, 8)
    fake.pid = None
    died_s = unit.started_s + STEADY_S + 1
    supervisor.look_after(died_s)
    assert unit.restart_s == pytest.approx(died_s + BACKOFF_S_MIN)


def test_look_after_when_a_restart_fails_tries_again_later() -> None:
    fake = Fake()
    fake.fails = True
    supervisor = Supervisor([Unit("fake", fake)])
    for now_s in (1.0, 2.0, 3.0, 4.0):
        supervisor.look_after(now_s)
    assert fake.start_count == 2
    fake.fails = False
    supervisor.look_after(10.0)
    supervisor.look_after(20.0)
    assert fake.pid == 1


def test_stop_when_units_run_stops_the_last_started_first() -> None:
    said: list[str] = []
    supervisor = Supervisor([Unit(name, Fake(name, said)) for name in ("store", "service")])
    supervisor.start(threading.Event())
    supervisor.stop()
    assert said == ["start store", "start service", "stop service", "stop store"]


def test_start_when_stop_is_asked_already_starts_nothing() -> None:
    stop = threading.Event()
    stop.set()
    Supervisor([Unit("fake", fake := Fake())]).start(stop)
    assert fake.start_count == 0


def test_make_units_with_several_consumers_gives_each_a_name_and_an_index_of_its_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, consumer_processes=3)

    _, processes = make_units(settings, None, None)

    consumers = {unit.name: unit.what for unit in processes if unit.name.startswith("consumer")}
    assert list(consumers) == ["consumer", "consumer-2", "consumer-3"]
    indexes = [next(word for word in each._command if "INDEX" in word) for each in consumers.values()]  # type: ignore[attr-defined]
    assert indexes == [f"RECO_CONSUMER_INDEX={index}" for index in range(3)]
