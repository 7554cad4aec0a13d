"""A surface file (TOML) -> rules by surface, or every mistake in it at once. docs/surfaces.md describes the format."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.settings import SettingsError
from serving.limits import PAGE_SIZE_MAX
from serving.rules import (
    BY_SCORE,
    BY_TURNS,
    PLAIN,
    QUOTA_SOURCES,
    REQUEST,
    SOURCES,
    Boosting,
    Pin,
    Promotion,
    Quotas,
    Rotation,
    Rules,
    Served,
)
from serving.served import SERVED_COUNT_MAX
from serving.surface_reader import REQUIRED, Mistake, Reader

FILE_BYTES_MAX = 1024 * 1024  # far more than people write; a wrong path must not fill the memory
SURFACE_COUNT_MAX, NAME_CHARS_MAX = 256, 64  # the contract's length of a surface
BOOST_COUNT_MAX, PIN_COUNT_MAX = 16, 32  # each costs a request about a microsecond
PROMOTION_COUNT_MAX, PROMOTED_ITEM_COUNT_MAX = 8, 100
QUOTA_MAX = 200  # candidates; more than that are never scored
SERVED_S_MAX = 30 * 86_400


class SurfaceFileError(SettingsError):
    """The operator's fault: the surface file can't be used. A line for each mistake."""

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(f"{path}: {mistake}" for mistake in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class SurfaceFile:
    """The rules of every surface."""

    version: str = ""  # 12 hexadecimal digits of its content
    default: Rules = PLAIN  # of requests that name no surface, or one that is not in the file
    surfaces: Mapping[str, Rules] = field(default_factory=dict)

    @property
    def all(self) -> list[Rules]:
        """The default's, then the others'."""
        return [self.default, *self.surfaces.values()]


def read(path: str, data: bytes) -> SurfaceFile:
    """What the file says. SurfaceFileError with all its mistakes; `path` stands before each."""
    mistakes: list[Mistake] = []
    found = _file(data, mistakes)
    if mistakes or found is None:
        raise SurfaceFileError(path, mistakes)
    return found


def read_file(path: Path) -> SurfaceFile:
    """As `read`, of a file; one that can't be read is a mistake, too."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        wrong = f"it can't be read: {error.strerror or error}"
        raise SurfaceFileError(str(path), [Mistake("", wrong, "a file that may be read")]) from None
    return read(str(path), data)


def _file(data: bytes, mistakes: list[Mistake]) -> SurfaceFile | None:
    if len(data) > FILE_BYTES_MAX:
        mistakes.append(Mistake("", "it is too large", f"at most {FILE_BYTES_MAX:,} bytes"))
        return None
    try:
        tables = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        mistakes.append(Mistake("", f"it can't be read: {error}", "TOML in UTF-8"))
        return None
    version = hashlib.sha256(data).hexdigest()[:12]
    top = Reader("", tables, mistakes)
    default = _rules(top.table("default"), Rules(version=version))
    named = top.table("surfaces")
    if len(named.values) > SURFACE_COUNT_MAX:
        named.wrong("", f"there are {len(named.values)} surfaces", f"at most {SURFACE_COUNT_MAX}")
    surfaces = {}
    for name in named.values:
        if not 0 < len(name) <= NAME_CHARS_MAX:
            named.wrong(name, "its name is too long or empty", f"1 to {NAME_CHARS_MAX} characters")
        surfaces[name] = _rules(named.table(name), default, name)
    named.done()
    top.done()
    return SurfaceFile(version, default, surfaces)


def _rules(given: Reader, base: Rules, name: str = "") -> Rules:
    """The rules of one surface; what it does not say is the default's."""
    rules = Rules(
        surface=name,
        version=base.version,
        page_size=given.whole("page_size", 1, PAGE_SIZE_MAX, base.page_size),
        filter=given.filter("filter", base.filter),
        diversity=given.number("diversity", 0, 1, base.diversity),
        max_per_category=given.whole("max_per_category", 0, PAGE_SIZE_MAX, base.max_per_category),
        min_score=given.least("min_score", base.min_score),
        include_seen=given.flag("include_seen", base.include_seen),
        exploration=given.number("exploration", 0, 1, base.exploration),
        merging=given.choice("merging", (BY_SCORE, BY_TURNS), base.merging),
        turns=given.names("turns", SOURCES, base.turns),
        quotas=given.part("quotas", _quotas, base.quotas),
        boosts=given.parts("boosts", _boost, BOOST_COUNT_MAX, base.boosts),
        pins=given.parts("pins", _pin, PIN_COUNT_MAX, base.pins),
        promotions=given.parts("promotions", _promotion, PROMOTION_COUNT_MAX, base.promotions),
        served=given.part("served", _served, base.served),
        rotation=given.part("rotation", _rotation, base.rotation),
    )
    if rules.merging == BY_TURNS and not rules.turns and "turns" not in given.values:
        given.wrong("turns", "it is missing", f'with merging = "{BY_TURNS}", the sources in their order')
    _check_pins(given, rules)
    total = sum(promotion.share for promotion in rules.promotions)
    if total > 1 and "promotions" in given.values:
        given.wrong("promotions", f"their shares add up to {total:g}", "at most 1")
    given.done()
    return rules


def _check_pins(given: Reader, rules: Rules) -> None:
    if "pins" not in given.values:
        return  # the default's: told there
    told = {"place": [str(p.place) for p in rules.pins], "item": [p.item_id for p in rules.pins]}
    for what, values in told.items():
        for value in sorted({value for value in values if values.count(value) > 1}):
            given.wrong("pins", f"several have the {what} {value}", "each place and each item once")


def _quotas(given: Reader) -> Quotas:
    return Quotas(**{name: given.whole(name, 0, QUOTA_MAX, None) for name in QUOTA_SOURCES})


def _boost(given: Reader, number: int) -> Boosting:
    name = given.text("name", f"boost {number}")
    if name == REQUEST:
        given.wrong("name", f"it is {name!r}, which stands for a request's own boosts", "another name")
    return Boosting(name, given.filter("filter", None), given.number("weight", -1, 1, None))


def _pin(given: Reader, number: int) -> Pin:
    name = given.text("name", f"pin {number}")
    return Pin(name, given.text("item", None), given.whole("place", 1, PAGE_SIZE_MAX, REQUIRED))


def _promotion(given: Reader, number: int) -> Promotion:
    name = given.text("name", f"promotion {number}")
    promotion = Promotion(
        name, given.number("share", 0, 1, None), given.filter("filter", ""), given.names("items", None, ())
    )
    if not promotion.share > 0 and "share" in given.values:
        given.wrong("share", "it is 0", "a number above 0, up to 1")
    if bool(promotion.filter) == bool(promotion.item_ids) and not given.has_mistakes:
        given.wrong("", "it needs to say which items", "either a filter or items, not both")
    if len(promotion.item_ids) > PROMOTED_ITEM_COUNT_MAX:
        given.wrong(
            "items",
            f"there are {len(promotion.item_ids)}",
            f"at most {PROMOTED_ITEM_COUNT_MAX}; else a filter",
        )
    return promotion


def _served(given: Reader) -> Served:
    return Served(
        given.whole("window_s", 1, SERVED_S_MAX, REQUIRED),
        given.whole("count", 1, SERVED_COUNT_MAX, SERVED_COUNT_MAX),
    )


def _rotation(given: Reader) -> Rotation:
    return Rotation(given.number("rate", 0, 1, None), given.whole("time_s", 1, SERVED_S_MAX, REQUIRED))
