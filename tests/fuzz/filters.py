"""The filter language: what is read means to a whole catalogue what a plain reading says of each item."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from runtime.errors import CallerError
from serving.catalogue import Catalogue, ItemRow
from serving.filter_syntax import Comparison, Junction, Node, Not, parse
from serving.filters import bind, evaluate
from tests.fuzz.target import Choices, Target, text_of
from tests.unit.serving.items import NOW_S, catalogue_of, item

CATALOGUES = 16
ITEMS_MAX = 12
WORDS = (
    "a",
    "b",
    "War",
    "war",
    "Straße",
    "strasse",
    "é",
    "*",
    "7",
    "1990",
    "q\"x'\\",
    "İ",
    "ſ",
    "\0x",
    "日本",
    "a b",
    "nan",
)
NUMBERS = (0.0, -0.0, 1.0, 7.0, -2.5, 1990.0, 127.0, 128.0, -128.0, 32768.0, 2.0**31, 2.0**53, 1e300, 5e-324)
NAMES = ("categories", "tags", "title", "create_time", "year", "price", "brand", "both", "nobody")
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", ":")
TIMES = (
    "1970-01-01",
    "2026-01-01T00:00:00Z",
    "2027-01-15T08:00:00.5+01:00",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
)


@lru_cache(maxsize=CATALOGUES)
def items_of(number: int) -> tuple[list[ItemRow], Catalogue]:
    """One of a few random catalogues."""
    dice = random.Random(number)
    rows = [_item(dice, key) for key in sorted(dice.sample(range(1, 40), dice.randint(1, ITEMS_MAX)))]
    return rows, catalogue_of(*rows)


def _item(dice: random.Random, key: int) -> ItemRow:
    words = [word for word in WORDS if "\0" not in word]  # ingest refuses those
    lists = [list(dict.fromkeys(dice.choices(words, k=dice.randint(0, 3)))) for _ in range(2)]
    numbers = {name: dice.choice(NUMBERS) for name in ("year", "price", "both") if dice.random() < 0.6}
    texts = {name: dice.choice(words) for name in ("brand", "both") if dice.random() < 0.6}
    created_s = dice.choice([0.0, NOW_S, NOW_S + 0.5])
    title = dice.choice([*words, ""])
    return item(
        key, title=title, categories=lists[0], tags=lists[1], numbers=numbers, texts=texts, create_s=created_s
    )


def filter_text(data: bytes) -> None:
    """Any text is read or refused by CallerError with a place in it; what is read means what it says, and so does its normal form."""
    rows, catalogue = items_of(data[0] % CATALOGUES if data else 0)
    text = text_of(data[1:])
    try:
        node = parse(text)
        found = evaluate(node, catalogue)
    except CallerError as error:
        if not 0 <= int(error.metadata["position"]) <= len(text):
            raise AssertionError(f"{text!r}: a place outside of it: {error}") from error
        return
    keys = [row.key for row in rows]
    expected = [holds(node, row, rows) for row in rows]
    assert found[keys].tolist() == expected, f"{text!r} holds for {found[keys]}, plainly for {expected}"
    assert bind(node, catalogue).of(found.nonzero()[0]).all()
    if node is not None:
        normal = parse(str(node))
        assert str(normal) == str(node)
        assert evaluate(normal, catalogue)[keys].tolist() == expected


def filter_tree(data: bytes) -> None:
    """The same for texts that are filters by their making, or nearly."""
    choices = Choices(data[1:])
    filter_text(data[:1] + b" " + _tree(choices, 4).encode(errors="surrogateescape"))


def _tree(choices: Choices, depth: int) -> str:
    kind = choices.number(8) if depth else 0
    if kind < 3:
        return _comparison(choices)
    if kind == 3:
        return choices.one_of(("NOT ", "-")) + f"({_tree(choices, depth - 1)})"
    word = choices.one_of((" AND ", " OR ", " "))
    parts = [_tree(choices, depth - 1) for _ in range(2 + choices.number(2))]
    return "(" + word.join(parts) + ")" if kind > 4 else word.join(parts)


def _comparison(choices: Choices) -> str:
    space = choices.one_of(("", " "))
    value = choices.one_of((*WORDS, *map(repr, NUMBERS), *TIMES, choices.text()))
    quoted = choices.one_of(('"', "'", ""))
    escaped = value.replace("\\", "\\\\").replace(quoted, f"\\{quoted}") if quoted else value
    return space.join((choices.one_of(NAMES), choices.one_of(OPERATORS), f"{quoted}{escaped}{quoted}"))


def holds(node: Node | None, row: ItemRow, rows: list[ItemRow]) -> bool:
    """The plain reading of one item; `rows` say which attributes there are."""
    match node:
        case None:
            return True
        case Not(inner):
            return not holds(inner, row, rows)
        case Junction(word, parts):
            return (all if word == "AND" else any)([holds(part, row, rows) for part in parts])
        case Comparison():
            return _compares(node, _has(node, row, rows))


def _has(node: Comparison, row: ItemRow, rows: list[ItemRow]) -> Any:
    """What the item has of this name: a list, a text, a number, or None."""
    plain: dict[str, Any] = {
        "categories": list(row.categories), "tags": list(row.tags), "title": row.title or None,
        "create_time": float(row.create_s),
    }  # fmt: skip
    if node.name in plain:
        return plain[node.name]
    has_numbers = any(node.name in each.numbers for each in rows)
    has_texts = any(node.name in each.texts for each in rows)
    if has_texts and (not has_numbers or node.quoted):
        return row.texts.get(node.name)
    return row.numbers.get(node.name)


def _compares(node: Comparison, have: Any) -> bool:
    is_presence = node.operator == ":" and node.value == "*" and not node.quoted
    if isinstance(have, list):
        return bool(have) if is_presence else node.value in have
    if have is None or is_presence:
        return have is not None
    if isinstance(have, str):
        return (
            node.value.casefold() in have.casefold()
            if node.operator == ":"
            else _sign(node, have, node.value)
        )
    wanted = _seconds(node.value) if node.name == "create_time" else float(node.value)
    assert math.isfinite(wanted)
    return have == wanted if node.operator == ":" else _sign(node, have, wanted)


def _seconds(text: str) -> float:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _sign(node: Comparison, have: Any, wanted: Any) -> bool:
    compare: dict[str, Callable[[], bool]] = {
        "=": lambda: have == wanted, "!=": lambda: have != wanted, "<": lambda: have < wanted,
        "<=": lambda: have <= wanted, ">": lambda: have > wanted, ">=": lambda: have >= wanted,
    }  # fmt: skip
    return bool(compare[node.operator]())


_TEXTS = (
    'categories:"War" AND year >= 1990', "NOT tags:new OR -title:WAR", "(year = 7 price != -2.5) OR brand:*",
    "create_time < 2000-01-01T00:00:00Z", 'title = "q\\"x"', "both = '7' both < 8",
)  # fmt: skip
_WORDS = tuple(
    word.encode()
    for word in (
        *NAMES,
        *OPERATORS,
        "(",
        ")",
        '"',
        "'",
        "\\",
        "AND ",
        "OR ",
        "NOT ",
        "-",
        ":*",
        *TIMES,
        *WORDS,
    )
)

TARGETS = [
    Target("filter_text", filter_text, [b"\5" + text.encode() for text in _TEXTS], _WORDS, slow=2),
    Target("filter_tree", filter_tree, [bytes(range(seed, seed + 40)) for seed in range(0, 160, 40)], (), slow=3),
]  # fmt: skip
