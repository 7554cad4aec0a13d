"""What a process's memory is read as."""

from __future__ import annotations

import mmap
import os

from bench.sharing import private_by_mapping, rollup

SIZE_BYTES = 32 * 1024 * 1024


def test_memory_when_a_private_mapping_is_filled_counts_it_as_private() -> None:
    before, kinds_before = rollup(os.getpid()), private_by_mapping(os.getpid())
    with mmap.mmap(-1, SIZE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as filled:
        filled.write(b"\1" * SIZE_BYTES)
        after, kinds = rollup(os.getpid()), private_by_mapping(os.getpid())
    assert after["Private_Dirty"] - before["Private_Dirty"] > SIZE_BYTES // 2
    assert after["Pss"] <= after["Rss"]
    assert kinds["anonymous"] - kinds_before["anonymous"] > SIZE_BYTES // 2
