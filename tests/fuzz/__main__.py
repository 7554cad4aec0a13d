"""`python -m tests.fuzz`: every target for its share of the time; how many inputs, how many paths, and what was found.

With atheris (the extra `fuzz`) the inputs are guided by the paths that they take; without it they are changed at random. An input
that is a finding is put under tests/fuzz/crashers/, where it is a case of the tests from then on. What was learnt is kept in
data/fuzz/, so a further run goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.fuzz.mutate import inputs
from tests.fuzz.target import INPUT_BYTES_MAX, Target
from tests.fuzz.targets import CRASHERS, TARGETS, crashers_of

LEARNT = Path("data/fuzz")
INPUT_S_MAX = 10  # of one input: what takes longer is a finding
MEMORY_MIB_MAX = 2_048
START_S_MAX = 300  # the first start compiles kernels with bounds checks
CHUNK = 1_000  # inputs between two looks at the clock
FAILED = 1
GUIDED = importlib.util.find_spec("atheris") is not None


@dataclass(frozen=True)
class Found:
    """What a target's time came to."""

    name: str
    inputs: int
    paths: int  # edges of the watched modules that inputs have taken; 0 when nobody looked
    learnt: int  # inputs that took a path which none before had taken
    finding: str  # what to look at, or ""


def main() -> None:
    """Runs, tells, and fails if anything was found."""
    options = _options()
    chosen = [TARGETS[name] for name in options.target or TARGETS]
    each_s = options.seconds * min(options.jobs, len(chosen)) / len(chosen)
    print(
        f"{len(chosen)} targets, {each_s:.0f} s each, {'guided by paths' if GUIDED else 'at random: atheris is missing'}"
    )
    run = partial(_guided if GUIDED else _random, seed=options.seed, seconds_s=each_s)
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda target: _told(run(target)), chosen))
    total = sum(each.inputs for each in found)
    findings = [each.finding for each in found if each.finding]
    print(
        f"{total:,} inputs, {sum(each.learnt for each in found):,} with new paths, {len(findings)} findings"
    )
    sys.exit(FAILED if findings else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="altogether")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only these")
    return parser.parse_args()


def _told(found: Found) -> Found:
    paths = f", {found.paths:,} paths, {found.learnt:,} inputs with new ones" if found.paths else ""
    print(f"  {found.name:<18} {found.inputs:>12,} inputs{paths}  {found.finding}".rstrip(), flush=True)
    return found


def _random(target: Target, seed: int, seconds_s: float) -> Found:
    deadline_s, count = time.monotonic() + seconds_s, 0
    while time.monotonic() < deadline_s:
        for data in inputs(target, crashers_of(target.name), seed + count, CHUNK):
            try:
                target.run(data)
            except Exception as error:
                return Found(
                    target.name, count, 0, 0, f"{_keep(target.name, data)}: {type(error).__name__}: {error}"
                )
            count += 1
    return Found(target.name, count, 0, 0, "")


def _keep(name: str, data: bytes) -> Path:
    path = CRASHERS / name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _guided(target: Target, seed: int, seconds_s: float) -> Found:
    folder = LEARNT.resolve() / target.name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*target.seeds, *crashers_of(target.name)]):
        (folder / "corpus" / f"seed-{number}").write_bytes(data)
    words = [f'"{_escaped(word)}"' for word in target.words if word] or ["# none"]
    (folder / "words").write_text("\n".join(words) + "\n")
    kept = CRASHERS / target.name
    kept.mkdir(parents=True, exist_ok=True)
    before = set(kept.iterdir())
    log = folder / "log"
    with log.open("wb") as out:
        command = _command(target.name, seed, seconds_s, folder, kept)
        # Bounds of arrays are checked in kernels, too, which needs a cache of its own.
        changed = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(LEARNT.resolve() / "kernels")}
        subprocess.run(
            command,
            env=os.environ | changed,
            stdout=out,
            stderr=out,
            check=False,
            timeout=seconds_s + START_S_MAX,
        )
    new = sorted(set(kept.iterdir()) - before)
    if not any(kept.iterdir()):
        kept.rmdir()
    return _read(target.name, log.read_text(errors="replace"), new, log)


def _command(name: str, seed: int, seconds_s: float, folder: Path, kept: Path) -> list[str]:
    return [
        sys.executable, "-m", "tests.fuzz.guided", name, f"-max_total_time={seconds_s:.0f}", f"-seed={seed}",
        f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_S_MAX}", f"-rss_limit_mb={MEMORY_MIB_MAX}", "-print_final_stats=1",
        f"-dict={folder / 'words'}", f"-artifact_prefix={kept}/", str(folder / "corpus"),
    ]  # fmt: skip


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _read(name: str, log: str, new: Sequence[Path], path: Path) -> Found:
    """What libFuzzer's log says."""
    executed = re.findall(r"stat::number_of_executed_units: (\d+)", log)
    paths = re.findall(r"cov: (\d+)", log)
    added = re.findall(r"stat::new_units_added:\s+(\d+)", log)
    finding = ", ".join(str(each) for each in new) or ("" if executed else f"it did not run, see {path}")
    return Found(name, int((executed or [0])[-1]), int((paths or [0])[-1]), int((added or [0])[-1]), finding)


if __name__ == "__main__":
    main()
