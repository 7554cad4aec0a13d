"""Who had which core during a run: the load, the server, and what else the machine did meanwhile."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

BUSY_WARN = 0.95  # of a core, from which whoever shares it with others waits for it
OTHERS_WARN = 0.05  # of all cores' time that went to processes which are not the bench's
IDLE, IOWAIT, STEAL = 3, 4, 7  # columns of /proc/stat


@dataclass(frozen=True)
class Snapshot:
    """Seconds since some start."""

    at_s: float
    busy_s: Mapping[int, float]  # by core
    stolen_s: Mapping[int, float]  # by core: the hypervisor gave it to another machine
    used_s: Mapping[str, float]  # by process of ours


def snapshot(pids: Mapping[str, Iterable[int]]) -> Snapshot:
    """Now. `pids`: processes by their name; one that has ended counts as nothing."""
    busy, stolen = _cores()
    used = {name: sum(map(_used_s, own)) for name, own in pids.items()}
    return Snapshot(time.monotonic(), busy, stolen, used)


def between(first: Snapshot, last: Snapshot, also_used_s: Mapping[str, float]) -> dict[str, object]:
    """Shares of one core's time: each core's busy share, each process's use, and what others took of all cores.

    `also_used_s`: of children that have ended, which told themselves what they used.
    """
    took_s = max(last.at_s - first.at_s, 1e-9)
    cores = {core: (last.busy_s[core] - first.busy_s[core]) / took_s for core in last.busy_s}
    stolen = {core: (last.stolen_s[core] - first.stolen_s[core]) / took_s for core in last.stolen_s}
    used = {name: (last.used_s[name] - first.used_s[name]) / took_s for name in last.used_s}
    used |= {name: value / took_s for name, value in also_used_s.items()}
    others = max(sum(cores.values()) - sum(used.values()), 0.0) / len(cores) if cores else 0.0
    return {"cores": _named(cores), "stolen": _named(stolen), "used": used, "others": others}


def _cores() -> tuple[dict[int, float], dict[int, float]]:
    tick_s, busy, stolen = 1 / os.sysconf("SC_CLK_TCK"), {}, {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                ticks = list(map(int, fields[:8]))
                core = int(name[3:])
                busy[core] = (sum(ticks) - ticks[IDLE] - ticks[IOWAIT] - ticks[STEAL]) * tick_s
                stolen[core] = ticks[STEAL] * tick_s
    return busy, stolen


def _used_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _named(values: Mapping[int, float]) -> dict[str, float]:
    return {str(core): value for core, value in values.items()}
