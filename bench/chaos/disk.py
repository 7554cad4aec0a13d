"""Disks that can be filled: file systems in memory, mounted for a run. Mounting needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

BALLAST = ".ballast"
MIB = 1024 * 1024
SIZES_MIB = {"lake": 1024, "valkey": 3072, "postgres": 6144}  # at the most; what is not used takes no memory


def can_mount() -> bool:
    """Whether this machine lets us."""
    return os.geteuid() == 0 and Path("/proc/filesystems").read_text().find("tmpfs") >= 0


@contextlib.contextmanager
def disk(folder: Path, name: str, mounts: bool) -> Iterator[Path]:
    """A folder for `name`; where `mounts`, a file system of its own, gone at the end."""
    place = folder / name
    place.mkdir()
    place.chmod(0o755)
    if not mounts:
        yield place
        return
    options = f"size={SIZES_MIB[name]}m,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "reco-chaos", str(place)], check=True)  # noqa: S603, S607
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)  # noqa: S603, S607


def fill(place: Path) -> None:
    """Takes every byte that is free."""
    free = os.statvfs(place)
    with (place / BALLAST).open("wb") as ballast, contextlib.suppress(OSError):
        step = max(free.f_frsize, MIB)
        size = free.f_bavail * free.f_frsize
        os.posix_fallocate(ballast.fileno(), 0, max(size, 1))
        while True:  # what others have freed meanwhile
            os.posix_fallocate(ballast.fileno(), size, step)
            size += step


def free(place: Path) -> None:
    """Gives it back."""
    (place / BALLAST).unlink(missing_ok=True)
