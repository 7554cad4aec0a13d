"""The filter language, against a plain evaluator of single items."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reco.errors.v1 import error_reason_pb2

from runtime.errors import CallerError
from serving.catalogue import ItemRow
from serving.filter_syntax import parse
from serving.filters import evaluate
from tests.unit.serving.items import catalogue_of, item

ITEMS = [
    item(1, title="War and Peace", categories=["War", "Drama"], numbers={"year": 1966, "price": -2.5}, create_s=0),
    item(2, title="Peace", categories=["Comedy"], tags=["new"], numbers={"year": 1990}, texts={"brand": "a b"}),
    item(3, title="war games", categories=["War"], texts={"brand": 'q"x'}, numbers={"year": 1990.5}),
    item(5, title="", tags=["new", "odd"], texts={"brand": "b", "year": "old"}),
]  # fmt: skip
CATALOGUE = catalogue_of(*ITEMS)


def passing(text: str) -> list[int]:
    mask = evaluate(parse(text), CATALOGUE)
    return [row.key for row in ITEMS if mask[row.key]]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", [1, 2, 3, 5]),
        ('categories:"War"', [1, 3]),
        ("categories:War AND year >= 1990", [3]),
        ("NOT categories:War", [2, 5]),
        ("-categories:War", [2, 5]),
        ("categories:*", [1, 2, 3]),
        ("categories:Comedy OR tags:odd", [2, 5]),
        ("tags:new categories:Comedy", [2]),
        # OR binds tighter than AND: this is War AND (Drama OR new).
        ("categories:War AND categories:Drama OR tags:new", [1]),
        ("(categories:War AND categories:Drama) OR tags:new", [1, 2, 5]),
        ("year = 1990", [2]),
        ("year != 1990", [1, 3]),
        ("year:*", [1, 2, 3]),
        ("price < -2", [1]),
        ('year = "old"', [5]),
        ("title:WAR", [1, 3]),
        ('title = "Peace"', [2]),
        ("title > Q", [1, 3]),
        ('brand = "q\\"x"', [3]),
        ("brand != b", [2, 3]),
        ("brand = nobody", []),
        ("create_time < 2000-01-01", [1]),
        ("create_time >= 1970-01-01T00:00:01Z", [2, 3, 5]),
        ('create_time = "1970-01-01T01:00:00+01:00"', [1]),
        ("NOT (year:* OR tags:new)", []),
    ],
)
def test_filter_when_evaluated_passes(text: str, keys: list[int]) -> None:
    assert passing(text) == keys


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("year >=", 7, "expected a value"),
        ("year", 4, "expected one of"),
        ("yaer = 1", 0, "no item has an attribute 'yaer'"),
        ("year = 1 AND", 12, "expected the name"),
        ("(year = 1", 9, "expected ')'"),
        ("year = 1)", 8, "unexpected ')'"),
        ("year = twelve", 7, "is a number"),
        ("year = nan", 7, "is a number"),
        ("categories = War", 0, "is a list"),
        ("create_time > yesterday", 14, "is a time"),
        ('title = "open', 8, "never closed"),
        ("year = 1 , 2", 9, "unexpected ','"),
        ("NOT NOT year = 1", 4, "expected the name"),
        ("(" * 40 + "year = 1" + ")" * 40, 33, "nested"),
        ("AND", 0, "expected the name"),
    ],
)
def test_filter_when_wrong_names_the_position(text: str, position: int, words: str) -> None:
    with pytest.raises(CallerError, match="position") as caught:
        passing(text)
    assert caught.value.reason == error_reason_pb2.ERROR_REASON_FILTER_INVALID
    assert caught.value.metadata["position"] == str(position)
    assert words in caught.value.metadata["description"]


def holds(name: str, operator: str, value: str, row: ItemRow) -> bool:
    """The plain evaluator: one comparison, one item."""
    have: object
    want: object = value
    if name in ("categories", "tags"):
        entries = row.categories if name == "categories" else row.tags
        return bool(entries) if value == "*" else value in entries
    if name == "title":
        have = row.title or None
    elif name == "brand":
        have = row.texts.get("brand")
    elif name == "create_time":
        have, want = row.create_s, datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()
    else:
        have, want = row.numbers.get(name), float(value)
    if have is None:
        return False
    if operator == ":":
        return value.casefold() in have.casefold() if isinstance(have, str) else have == want
    return bool(eval(f"have {operator.replace('=', '==') if operator == '=' else operator} want"))


COMPARE = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
COMPARISONS = st.one_of(
    st.tuples(
        st.sampled_from(["categories", "tags"]),
        st.just(":"),
        st.sampled_from(["War", "new", "odd", "no", "*"]),
    ),
    st.tuples(st.sampled_from(["title", "brand"]), COMPARE, st.sampled_from(["a", "Peace", "b", "Q", "war"])),
    st.tuples(st.sampled_from(["title", "brand"]), st.just(":"), st.sampled_from(["a", "PEACE", "b", "zz"])),
    st.tuples(st.just("price"), COMPARE, st.sampled_from(["-2.5", "0", "1e3"])),
    st.tuples(st.just("create_time"), COMPARE, st.sampled_from(["1970-01-01", "2026-01-01", "2030-01-01"])),
)
Tree = tuple[str, tuple[object, ...]]
TREES = st.recursive(
    st.tuples(st.just("compare"), COMPARISONS),
    lambda inner: st.one_of(
        st.tuples(st.just("NOT"), st.tuples(inner)),
        st.tuples(st.sampled_from(["AND", "OR", ""]), st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


def text_of(tree: Tree) -> str:
    word, parts = tree
    if word == "compare":
        return f"{parts[0]} {parts[1]} {parts[2]}"
    inner = [f"({text_of(part)})" for part in parts]  # type: ignore[arg-type]  # trees all the way down
    return f"NOT {inner[0]}" if word == "NOT" else f" {word} ".join(inner)


def plain(tree: Tree, row: ItemRow) -> bool:
    word, parts = tree
    if word == "compare":
        return holds(*parts, row)  # type: ignore[arg-type]  # three texts
    inner = [plain(part, row) for part in parts]  # type: ignore[arg-type]  # trees all the way down
    if word == "NOT":
        return not inner[0]
    return any(inner) if word == "OR" else all(inner)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TREES)
def test_filter_of_random_tree_agrees_with_the_plain_evaluator(tree: Tree) -> None:
    text = text_of(tree)
    expected = [row.key for row in ITEMS if plain(tree, row)]
    assert passing(text) == expected
    normal = str(parse(text))
    assert passing(normal) == expected
    assert str(parse(normal)) == normal


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="year12 ()\"'\\<>=!:-ANDORT*.,é", max_size=40))
def test_filter_of_rubbish_is_read_or_refused_never_crashes(text: str) -> None:
    try:
        evaluate(parse(text), CATALOGUE)
        position = 0
    except CallerError as error:
        position = int(error.metadata["position"])
    assert 0 <= position <= len(text)
