"""How much memory is free, by the files that the kernel writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundle import BundleError, manifest_of, write
from serving.memory import available_bytes, resident_bytes
from serving.model import MemoryBound

MIB = 1024 * 1024
KEYS = {"item_keys": np.arange(1000, dtype=np.int32)}


def put(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return put(tmp_path / "proc", meminfo="MemTotal: 8192 kB\nMemAvailable: 4096 kB\n")


def test_available_without_a_container_is_the_machines(proc: Path, tmp_path: Path) -> None:
    assert available_bytes(proc, tmp_path / "none") == 4 * MIB


def test_available_in_a_container_of_version_2_counts_what_files_could_give_back(
    proc: Path, tmp_path: Path
) -> None:
    group = put(
        tmp_path / "group",
        memory_max=f"{3 * MIB}\n",
        memory_current=f"{2 * MIB}\n",
        memory_stat=f"anon 1\ninactive_file {MIB}\n",
    )
    assert available_bytes(proc, group) == 2 * MIB


def test_available_in_a_container_of_version_1_is_what_is_left(proc: Path, tmp_path: Path) -> None:
    folder = tmp_path / "group" / "memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(str(3 * MIB))
    (folder / "memory.usage_in_bytes").write_text(str(2 * MIB))
    assert available_bytes(proc, tmp_path / "group") == MIB


def test_available_in_a_container_without_a_limit_is_the_machines(proc: Path, tmp_path: Path) -> None:
    group = put(tmp_path / "group", memory_max="max\n", memory_current="5\n")
    assert available_bytes(proc, group) == 4 * MIB


def test_available_where_nobody_says_is_unknown(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path) is None


def test_resident_here_is_something() -> None:
    assert (resident_bytes() or 0) > MIB


@pytest.mark.parametrize(
    ("bytes_max", "available", "says"),
    [(1, None, "RECO_MODEL_BYTES_MAX"), (0, 1, "1 are free"), (0, None, None), (MIB, MIB, None)],
)
def test_bundle_beyond_a_bound_is_refused_by_name(
    tmp_path: Path, bytes_max: int, available: int | None, says: str | None
) -> None:
    manifest = manifest_of(write(tmp_path, "v1", KEYS, {}, {}, {}, 1.0))
    bound = MemoryBound(bytes_max, lambda: available)
    if says is None:
        bound.check(manifest)
        return
    with pytest.raises(BundleError, match=says):
        bound.check(manifest)
