"""`python -m bench.chaos.skewed MODULE`: the module as it is, with a clock that is wrong by the seconds in CHAOS_SKEW_FILE."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import runpy
import signal
import struct
import sys
import time
from pathlib import Path

from runtime.clock import SystemClock

OFFSET = struct.Struct("<d")
ENV = "CHAOS_SKEW_FILE"
TELL = signal.SIGUSR1  # asks where it waits


def write_offset(path: Path, seconds: float) -> None:
    """Sets how wrong the clock is from now on."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.write(OFFSET.pack(seconds))


def bend_clock(path: Path) -> None:
    """Makes the clock of this process follow the file."""
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), OFFSET.size, access=mmap.ACCESS_READ)

    def time_s(_clock: SystemClock) -> float:
        offset_s: float = OFFSET.unpack_from(shared)[0]
        return time.time() + offset_s

    setattr(SystemClock, "time_s", time_s)  # noqa: B010 -- a method is not assigned to otherwise


def tell_tasks(*_: object) -> None:
    """Writes where every task waits to standard error, which is the log."""
    for task in [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]:
        if not task.done():
            task.print_stack(file=sys.stderr)
    sys.stderr.flush()


def main() -> None:
    bend_clock(Path(os.environ[ENV]))
    signal.signal(TELL, tell_tasks)
    module = sys.argv[1]
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
