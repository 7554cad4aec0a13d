"""Killed at every single step: before each thing that is asked of the store. What comes after goes on, exactly once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.lake.compact import compact
from ingest.lake.expire import SUPERSEDED_KEEP_S, remove_superseded
from ingest.lake.files import LakeFiles, LocalLake
from ingest.lake.manifest import newest, paths_of, write_manifest
from ingest.lake.names import EVENTS
from ingest.lake.verify import repair, verify
from ingest.sinks.lake import LakeSink
from tests.integration.lake.samples import LATER_S, events, ids, names, no_check

ASKED = ("create", "read", "read_end", "list", "walk", "move", "remove")
ALL = [f"e{number}" for number in range(1, 9)]
LATE_S = 2_000_000_000.0  # by the store's clock


class Killed(BaseException):
    """As a kill: nothing catches it."""


class Mortal:
    """A lake whose process dies before the `steps_left`-th thing that it asks."""

    def __init__(self, files: LakeFiles, steps_left: int) -> None:
        self._files, self.steps_left = files, steps_left

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._files, name)
        return self._mortal(asked) if name in ASKED else asked

    def _mortal(self, asked: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            self.steps_left -= 1
            if self.steps_left == 0:
                raise Killed
            return asked(*arguments)

        return ask


def live(lake: Any) -> None:
    """A process's life: it writes what is delivered from the beginning on, compacts, and keeps the lake."""
    sink = LakeSink(lake, 0, no_check)
    for numbers, hour in ((range(1, 3), 0), (range(3, 5), 0), (range(5, 7), 1), (range(7, 9), 1)):
        sink._write(events(numbers, hour))
    compact(lake, 0, LATER_S, no_check)
    write_manifest(lake, LATER_S)
    remove_superseded(lake, LATE_S)


def steps_of_a_life(folder: Path) -> int:
    mortal = Mortal(LocalLake(folder), 10**9)
    live(mortal)
    return 10**9 - mortal.steps_left


def test_a_life_that_is_killed_anywhere_is_gone_on_with_and_each_event_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nobody cuts the power; it takes most of the time
    steps = steps_of_a_life(tmp_path / "whole")
    assert steps > 25
    for step in range(1, steps + 1):
        lake = LocalLake(tmp_path / str(step))
        with pytest.raises(Killed):
            live(Mortal(lake, step))
        seen = ids(lake)
        assert seen == ALL[: len(seen)], step  # at any moment: once, and without a gap

        live(lake)

        assert ids(lake) == ALL, step
        assert verify(lake).faults == (), step
        assert len(names(lake)) == 1, step
        made = newest(lake)
        assert made is not None
        assert ids(lake, paths_of(lake, made, EVENTS)) == ALL, step


@pytest.mark.parametrize("step_every", [4])
def test_lives_that_are_all_killed_still_come_to_an_end(lake: LakeFiles, step_every: int) -> None:
    lives = 0
    steps = 0
    while True:
        lives, steps = lives + 1, steps + step_every
        try:
            live(Mortal(lake, steps))
            break
        except Killed:
            seen = ids(lake)
            assert seen == ALL[: len(seen)], lives
    repair(lake)

    assert lives > 5
    assert ids(lake) == ALL
    assert verify(lake).faults == ()
    assert remove_superseded(lake, LATE_S + SUPERSEDED_KEEP_S) == 0
