"""Which data set: its size, its norms, its seed. The cache is found by a digest of these and of the generator itself."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vectorizer.features import FEATURES

NORMS = ("heavy", "flat", "equal")
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "bench"
REAL_ITEMS, REAL_USERS = 1_682, 943  # MovieLens-100k's
QUICK_ITEMS, QUICK_USERS = 30_000, 2_000
ITEMS_MIN, ITEMS_MAX = 1_000, 10_000_000


@dataclass(frozen=True)
class Options:
    """What a data set is made of."""

    items: int = 1_000_000
    factors: int = 64
    users: int = 20_000
    norms: str = "heavy"
    seed: int = 7
    real: bool = (
        False  # factors of MovieLens-100k, fitted by training's own functions; `items` does not count then
    )

    def __post_init__(self) -> None:
        if not ITEMS_MIN <= self.items <= ITEMS_MAX:
            raise ValueError(f"items is {self.items}, it has to be {ITEMS_MIN} to {ITEMS_MAX}")
        if self.factors < 8 or self.users < 100:
            raise ValueError("factors has to be at least 8, and users at least 100")
        if self.norms not in NORMS:
            raise ValueError(f"norms is {self.norms!r}, it has to be one of {', '.join(NORMS)}")

    def digest(self) -> str:
        """Twelve hex digits of the options and of the generator's source: other code, other data."""
        text = hashlib.sha256(json.dumps([asdict(self), FEATURES], sort_keys=True).encode())
        for path in sorted(Path(__file__).with_name("generate").glob("*.py")):
            text.update(path.read_bytes())
        return text.hexdigest()[:12]

    def folder(self, cache: Path = CACHE) -> Path:
        """Where this data set and everything made from it is kept."""
        return cache / self.digest()


def add_arguments(parser: argparse.ArgumentParser, items: int = Options.items) -> None:
    """The options of a data set, for a program's command line."""
    parser.add_argument(
        "--items", type=int, default=items, help="items of the catalogue (default: %(default)s)"
    )
    parser.add_argument(
        "--factors", type=int, default=Options.factors, help="dimensions (default: %(default)s)"
    )
    parser.add_argument(
        "--users", type=int, default=Options.users, help="stored profiles (default: %(default)s)"
    )
    parser.add_argument(
        "--norms", choices=NORMS, default=Options.norms,
        help="distribution of the factors' norms: heavy as of real iALS, flat, or all equal (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=Options.seed, help="of everything random (default: %(default)s)"
    )
    parser.add_argument(
        "--real", action="store_true", help="MovieLens-100k's factors instead of generated ones"
    )


def quick(options: Options) -> Options:
    """The same, smaller where the size was not asked for."""
    items = QUICK_ITEMS if options.items == Options.items else options.items
    return replace(options, items=items, users=min(options.users, QUICK_USERS))


def given(parser: argparse.ArgumentParser) -> tuple[Options, argparse.Namespace]:
    """The options on the command line and all of its arguments; ends the program with 2 and a line when one is out of bounds."""
    arguments = parser.parse_args()
    try:
        return from_arguments(arguments), arguments
    except ValueError as error:
        parser.error(str(error))


def from_arguments(arguments: argparse.Namespace) -> Options:
    """The options that were given. Raises ValueError."""
    a = arguments
    if a.real:
        return Options(REAL_ITEMS, a.factors, REAL_USERS, seed=a.seed, real=True)
    return Options(a.items, a.factors, a.users, a.norms, a.seed, a.real)
