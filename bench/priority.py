"""Before all other work of the machine: real-time priority for what is measured, so that a machine with other work tells nearly
what it would without. Nice is not enough: with groups of processes, as containers and sessions make them, it counts only within
one's own group.

The kernel keeps a twentieth of each second for the rest (sched_rt_runtime_us), so saturation is told 5 % too low.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

FIRST, VALKEY_FIRST = 10, 20  # of 1 to 99. An answer of Valkey's must not wait for the generator's next call


@contextlib.contextmanager
def first(valkey_pids: list[int]) -> Iterator[None]:
    """This process and those it starts go first, and Valkey before them. Raises ValueError without the right to it."""
    try:
        _set([os.getpid()], FIRST)
        _set(valkey_pids, VALKEY_FIRST)
    except (OSError, AttributeError):
        raise ValueError(
            "--first needs Linux and root (CAP_SYS_NICE): leave it out, or run it as root"
        ) from None
    try:
        yield
    finally:
        _set([os.getpid()], 0)


def _set(pids: list[int], priority: int) -> None:
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(int(task.name), policy, os.sched_param(priority))
