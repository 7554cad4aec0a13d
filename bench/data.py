"""Makes a data set, or finds it in the cache: items with factors, users with events, attributes, a forest, exact answers.

python -m bench.data --items 1000000 --norms heavy            # prints its folder
python -m bench.data --items 50000 --norms equal --out /some/folder
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import bench.dataset
from bench.dataset import Dataset
from bench.generate import whole
from bench.options import CACHE, Options, add_arguments, given

CACHED_MAX = 8  # data sets that are kept; one of a million items takes 4 GB with its stores and its graph


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--out", type=Path, help="write it here, too")
    options, arguments = given(parser)
    folder = make(options)
    if arguments.out:
        shutil.copytree(folder, arguments.out, dirs_exist_ok=True)
    print(arguments.out or folder)


def make(options: Options, cache: Path = CACHE) -> Path:
    """The folder of the data set of `options`, generated unless it is there."""
    folder = options.folder(cache) / "dataset"
    if not (folder / bench.dataset.PARAMS_FILE).exists():
        _forget_oldest(cache)
        start_s = time.monotonic()
        generate(options).write(folder)
        _say(f"made {options.items:,} items in {time.monotonic() - start_s:.0f} s")
    folder.parent.touch()
    return folder


def load(options: Options, cache: Path = CACHE) -> Dataset:
    """The data set of `options`, generated unless it is there."""
    return bench.dataset.read(make(options, cache))


def generate(options: Options) -> Dataset:
    """The data set, made anew."""
    if options.real:
        from bench.generate import (
            real,
        )  # training's own code, and a download: only who asks for it needs these

        return real.generate(options, _say)
    return whole.generate(options, _say)


def _forget_oldest(cache: Path) -> None:
    folders = sorted(
        (path for path in cache.glob("*") if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for folder in folders[: max(0, len(folders) - CACHED_MAX + 1)]:
        shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
