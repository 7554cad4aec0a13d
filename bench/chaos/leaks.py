"""Processes that have lived through faults, beside the same ones started anew: what they hold more is leaked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import PAGE_BYTES
from runtime import postgres, redis_client

MIB: Final = 1024 * 1024
# A cache that has filled and an allocator's rest are no leak; a leak of one small object an event would be 100 MB by now.
MEMORY_SHARE_MAX: Final = 1.3
MEMORY_MORE_MAX: Final = 40 * MIB
DESCRIPTORS_MORE_MAX: Final = (
    redis_client.CONNECTIONS_MAX + postgres.CONNECTIONS_MAX
)  # pools that pressure has filled


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    resident_bytes: int
    descriptors: int


def held(pid: int) -> Held:
    """Now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    count = 0
    with suppress(FileNotFoundError):
        count = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Held(pages * PAGE_BYTES, count)


def leak(name: str, old: Held, fresh: Held) -> str:
    """What the old one holds too much, "" for nothing."""
    if old.descriptors > fresh.descriptors + DESCRIPTORS_MORE_MAX:
        return f"{name}: {old.descriptors} descriptors, a fresh one has {fresh.descriptors}"
    if old.resident_bytes > fresh.resident_bytes * MEMORY_SHARE_MAX + MEMORY_MORE_MAX:
        return f"{name}: {old.resident_bytes / MIB:.0f} MB, a fresh one has {fresh.resident_bytes / MIB:.0f}"
    return ""
