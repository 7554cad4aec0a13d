"""A surface file (TOML) -> rules by surface, or every mistake in it at once. docs/surfaces.md describes the format."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from runtime.errors import CallerError
from runtime.settings import SettingsError
from serving.filter_syntax import parse
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

FILE_BYTES_MAX = 1024 * 1024  # far more than people write; a wrong path must not fill the memory
SURFACE_COUNT_MAX, NAME_CHARS_MAX = 256, 64  # the contract's length of a surface
FILTER_CHARS_MAX = 1_024  # the contract's of a request's
BOOST_COUNT_MAX, PIN_COUNT_MAX = 16, 32  # each costs a request about a microsecond
PROMOTION_COUNT_MAX, PROMOTED_ITEM_COUNT_MAX = 8, 100
QUOTA_MAX = 200  # candidates; more than that are never scored
SERVED_S_MAX = 30 * 86_400

Table = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a surface file."""

    place: str  # as in "surfaces.home.boosts[2].weight"; boosts are numbered from 1 on
    wrong: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.place or 'the file'}: {self.wrong}; allowed: {self.allowed}"


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


def _file(data: bytes, mistakes: list[Mistake]) -> SurfaceFile | None:
    if len(data) > FILE_BYTES_MAX:
        mistakes.append(Mistake("", f"it has {len(data)} bytes", f"at most {FILE_BYTES_MAX}"))
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
    if rules.merging == BY_TURNS and not rules.turns:
        given.wrong("turns", "it is missing", f'with merging = "{BY_TURNS}", the sources in their order')
    told = {"place": [str(p.place) for p in rules.pins], "item": [p.item_id for p in rules.pins]}
    for what, values in told.items():
        for value in sorted({value for value in values if values.count(value) > 1}):
            given.wrong("pins", f"several have the {what} {value}", "each place and each item once")
    total = sum(promotion.share for promotion in rules.promotions)
    if total > 1:
        given.wrong("promotions", f"their shares add up to {total:g}", "at most 1")
    given.done()
    return rules


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


REQUIRED: Final = -1  # of a whole number: it has to be said


class Reader:
    """One table of the file: each field is asked for once; what is wrong is noted, and the reading goes on."""

    def __init__(self, place: str, values: Table, mistakes: list[Mistake]) -> None:
        self.place, self.values = place, values
        self._mistakes, self._first = mistakes, len(mistakes)
        self._asked: dict[str, None] = {}

    @property
    def has_mistakes(self) -> bool:
        """Whether anything was wrong since this table was begun."""
        return len(self._mistakes) > self._first

    def wrong(self, name: str, wrong: str, allowed: str) -> None:
        """Notes a mistake."""
        place = ".".join(part for part in (self.place, name) if part)
        self._mistakes.append(Mistake(place, wrong, allowed))

    def done(self) -> None:
        """Whatever was not asked for is a mistake."""
        for name in self.values:
            if name not in self._asked:
                self.wrong(name, "there is no such field", ", ".join(self._asked) or "none")

    def table(self, name: str) -> Reader:
        """A table within this one; empty where there is none."""
        value = self._of(name, {}, lambda given: isinstance(given, dict), "a table")
        place = f"{self.place}.{name}" if self.place else name
        return Reader(place, value, self._mistakes)

    def part(self, name: str, read_part: Callable[[Reader], T], base: T) -> T:
        """A value that is a table of its own."""
        if name not in self.values:
            self._asked[name] = None
            return base
        inner = self.table(name)
        found = read_part(inner)
        inner.done()
        return found

    def parts(
        self, name: str, read_part: Callable[[Reader, int], T], count_max: int, base: tuple[T, ...]
    ) -> tuple[T, ...]:
        """Several of them; they take the place of all of the default's."""

        def fits(given: Any) -> bool:
            return isinstance(given, list) and all(isinstance(each, dict) for each in given)

        given = self._of(name, None, fits, f"tables, as in [[{self.place}.{name}]]")
        if given is None:
            return base
        if len(given) > count_max:
            self.wrong(name, f"there are {len(given)}", f"at most {count_max}")
        found = []
        for number, values in enumerate(given, 1):
            inner = Reader(f"{self.place}.{name}[{number}]", values, self._mistakes)
            found.append(read_part(inner, number))
            inner.done()
        return tuple(found)

    def number(self, name: str, low: float, high: float, base: float | None) -> float:
        """A number; it has to be said where base is None."""
        allowed = f"a number from {low:g} to {high:g}"

        def fits(given: Any) -> bool:
            return isinstance(given, int | float) and not isinstance(given, bool) and low <= given <= high

        return float(self._of(name, base, fits, allowed, low))

    def least(self, name: str, base: float | None) -> float | None:
        """Any finite number, or none."""

        def fits(given: Any) -> bool:
            number = isinstance(given, int | float) and not isinstance(given, bool)
            return number and abs(given) < float("inf")

        if name not in self.values:
            self._asked[name] = None
            return base
        return float(self._of(name, None, fits, "a finite number", 0.0))

    def whole(self, name: str, low: int, high: int, base: int | None) -> Any:
        """A whole number; None stays None."""

        def fits(given: Any) -> bool:
            return isinstance(given, int) and not isinstance(given, bool) and low <= given <= high

        if name not in self.values and base != REQUIRED:
            self._asked[name] = None
            return base
        return self._of(name, None, fits, f"a whole number from {low} to {high}", low)

    def flag(self, name: str, base: bool) -> bool:
        """true or false."""
        return bool(self._of(name, base, lambda given: isinstance(given, bool), "true or false"))

    def text(self, name: str, base: str | None) -> str:
        """1 to 128 characters; they have to be said where base is None."""

        def fits(given: Any) -> bool:
            return isinstance(given, str) and 0 < len(given) <= 128

        return str(self._of(name, base, fits, "a text of 1 to 128 characters", ""))

    def choice(self, name: str, among: tuple[str, ...], base: str) -> str:
        """One of some words."""
        allowed = " or ".join(f'"{word}"' for word in among)
        return str(self._of(name, base, lambda given: given in among, allowed))

    def names(self, name: str, among: tuple[str, ...] | None, base: tuple[str, ...]) -> tuple[str, ...]:
        """A list of distinct texts, of `among` if that is given."""
        allowed = "a list of distinct texts of 1 to 128 characters"
        if among:
            allowed = "a list, each at most once, of " + ", ".join(f'"{word}"' for word in among)

        def fits(given: Any) -> bool:
            if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
                return False
            known = all(each in among if among else 0 < len(each) <= 128 for each in given)
            return known and len(set(given)) == len(given)

        return tuple(self._of(name, base, fits, allowed))

    def filter(self, name: str, base: str | None) -> str:
        """A filter that can be read; it has to be said where base is None. Whether items have its attributes is seen later."""

        def fits(given: Any) -> bool:
            return (
                isinstance(given, str)
                and len(given) <= FILTER_CHARS_MAX
                and (bool(given) or base is not None)
            )

        least = 1 if base is None else 0
        text = str(self._of(name, base, fits, f"a filter of {least} to {FILTER_CHARS_MAX:,} characters", ""))
        try:
            parse(text)
        except CallerError as error:
            self.wrong(name, error.message, "a filter as in a request")
        return text

    def _of(
        self, name: str, base: Any, fits: Callable[[Any], bool], allowed: str, instead: Any = None
    ) -> Any:
        """The field's value, or `base` where it is not said; `instead`, and a mistake, where it does not fit."""
        self._asked[name] = None
        if name not in self.values:
            if base is None and instead is not None:
                self.wrong(name, "it is missing", allowed)
                return instead
            return base
        value = self.values[name]
        if fits(value):
            return value
        self.wrong(name, f"it is {_shown(value)}", allowed)
        return instead if base is None else base


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
