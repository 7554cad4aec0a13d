"""How much memory is free, as the kernel and the container see it."""

from __future__ import annotations

import os
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_KIB = 1024


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Bytes that can still be had: of the machine, and of the container where it has a limit; None where nobody says.

    Pages of files that are kept and could be dropped count as free in both.
    """
    known = [found for found in (_of_machine(proc), _of_container(cgroup)) if found is not None]
    return min(known, default=None)


def resident_bytes(proc: Path = PROC) -> int | None:
    """Bytes of this process that are in memory, mapped files included."""
    pages = _read(proc / "self" / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None


def _of_machine(proc: Path) -> int | None:
    for line in _read(proc / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * _KIB
    return None


def _of_container(cgroup: Path) -> int | None:
    # Version 2 has its files at the top of what a container sees, version 1 below `memory`.
    for folder, limit, used in (
        (cgroup, "memory.max", "memory.current"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        most, now = _read(folder / limit).strip(), _read(folder / used).strip()
        if most.isdigit() and now.isdigit():
            return max(0, int(most) - int(now) + _inactive_file(folder / "memory.stat"))
    return None


def _inactive_file(stat: Path) -> int:
    for line in _read(stat).splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
