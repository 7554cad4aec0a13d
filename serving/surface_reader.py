"""Reads the tables of a surface file field by field; what is wrong is noted, with what is allowed, and the reading goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from runtime.errors import CallerError
from serving.filter_syntax import parse

Table = Mapping[str, Any]
T = TypeVar("T")

FILTER_CHARS_MAX, TEXT_CHARS_MAX = 1_024, 128  # the contract's of a request's filter, and of an item's id
REQUIRED: Final = -1  # of a whole number: it has to be said


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a surface file."""

    place: str  # as in "surfaces.home.boosts[2].weight"; boosts are numbered from 1 on
    wrong: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.place or 'the file'}: {self.wrong}; allowed: {self.allowed}"


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
            return isinstance(given, str) and 0 < len(given) <= TEXT_CHARS_MAX

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
            known = all(each in among if among else 0 < len(each) <= TEXT_CHARS_MAX for each in given)
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
