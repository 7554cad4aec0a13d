"""What a filter means: a tree and the catalogue -> a boolean array over item keys.

Names are `categories`, `tags`, `title`, `create_time` and the items' own attributes. Lists know `:` (holds this entry),
texts know comparisons and `:` (contains, case does not matter), numbers and times know comparisons; `name:*` asks whether there
is a value at all. A comparison with something that an item does not have is false, `!=` included.

`bind` finds the columns and reads the values; what it returns holds the columns' arrays as they are then, and may be asked on
another thread while the catalogue changes: it is wrong, at worst, about items that change meanwhile.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from serving import text_kernels
from serving.catalogue import Catalogue
from serving.columns import NO_WORD, Keys, ListColumn, Mask, NumberColumn, TextColumn, none_of
from serving.filter_syntax import Comparison, Junction, Node, Not, filter_error
from serving.kernels import mark_lists
from serving.texts import TextTable

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TIME = "create_time"
_BEYOND_ASCII = 2  # the verdict of search_texts on a word that only Python can casefold

At = slice | Keys  # which keys are asked about: all up to a size, or these
Check = Callable[[At], Mask]


@dataclass(frozen=True)
class Words:
    """A table of texts as it was: kernels read these arrays while the table may grow into others."""

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    size: int

    @classmethod
    def of(cls, table: TextTable) -> Words:
        """The table as it is now."""
        return cls(table.data, table.starts, table.lengths, table.size)

    def texts(self, numbers: np.ndarray) -> list[str]:
        """The texts of numbers (m,)."""
        runs = zip(self.starts[numbers].tolist(), self.lengths[numbers].tolist(), strict=True)
        return [self.data[s : s + n].tobytes().decode(errors="surrogatepass") for s, n in runs]


@dataclass(frozen=True)
class Bound:
    """A filter bound to the catalogue's arrays of one moment."""

    size: int  # how many keys there were
    check: Check

    def all(self) -> Mask:
        """(size,) bool: for which keys the filter holds."""
        return self.check(slice(0, self.size))

    def of(self, keys: Keys) -> Mask:
        """(m,) bool: for which of keys (m,), each below `size`, it holds."""
        return self.check(keys)


def evaluate(node: Node | None, catalogue: Catalogue) -> Mask:
    """(catalogue.size,) bool: for which keys the filter holds. CallerError FILTER_INVALID names the position."""
    return bind(node, catalogue).all()


def bind(node: Node | None, catalogue: Catalogue) -> Bound:
    """The filter's meaning in this catalogue. CallerError FILTER_INVALID names the position. Microseconds."""
    return Bound(catalogue.size, _check_of(node, catalogue))


def _check_of(node: Node | None, catalogue: Catalogue) -> Check:
    match node:
        case None:
            return lambda at: np.ones(_count(at), dtype=np.bool_)
        case Not(inner):
            opposite = _check_of(inner, catalogue)
            return lambda at: np.logical_not(opposite(at))
        case Junction(word, parts):
            join = np.logical_and if word == "AND" else np.logical_or
            checks = [_check_of(part, catalogue) for part in parts]
            return lambda at: _joined(join, checks, at)
        case Comparison():
            return _compare(node, catalogue)


def _count(at: At) -> int:
    return at.stop if isinstance(at, slice) else len(at)


def _joined(join: np.ufunc, checks: list[Check], at: At) -> Mask:
    mask = checks[0](at)
    for check in checks[1:]:
        join(mask, check(at), out=mask)
    return mask


def _compare(node: Comparison, catalogue: Catalogue) -> Check:
    lists = {"categories": catalogue.categories, "tags": catalogue.tags}
    if node.name in lists:
        return _compare_list(node, lists[node.name])
    if node.name == "title":
        return _compare_text(node, catalogue.title)
    if node.name == TIME:
        return _compare_times(node, catalogue.created_s)
    return _compare_attribute(node, catalogue)


def _compare_attribute(node: Comparison, catalogue: Catalogue) -> Check:
    numbers, texts = catalogue.numbers.get(node.name), catalogue.texts.get(node.name)
    if texts is not None and (numbers is None or node.quoted):
        return _compare_text(node, texts)
    if numbers is not None:
        return _compare_numbers(node, numbers)
    raise filter_error(node.position, f"no item has an attribute {node.name!r}")


def _is_presence(node: Comparison) -> bool:
    return node.operator == ":" and node.value == "*" and not node.quoted


def _compare_list(node: Comparison, column: ListColumn) -> Check:
    if node.operator != ":":
        raise filter_error(node.position, f"{node.name!r} is a list: ask with ':', as in {node.name}:\"x\"")
    starts, counts, pool = column.starts, column.counts, column.pool
    if _is_presence(node):
        return lambda at: np.asarray(counts[at] > 0)
    code = np.int32(column.words.find(node.value))

    def holds(at: At) -> Mask:
        out = np.zeros(_count(at), dtype=np.bool_)
        if code >= 0:
            mark_lists(starts[at], counts[at], pool, code, out)
        return out

    return holds


def _compare_text(node: Comparison, column: TextColumn) -> Check:
    codes, words = column.codes, Words.of(column.words)
    if _is_presence(node):
        return lambda at: np.asarray(codes[at] != NO_WORD)
    if node.operator == ":":
        part = node.value.casefold()
        return lambda at: _by_word(codes[at], at, words, lambda some: _holding(part, some))
    if node.operator in ("=", "!="):
        # Without a pass over all words: this is what most filters ask.
        return _compare_code(codes, column.words.find(node.value), node.operator)
    compare = _COMPARE[node.operator]
    return lambda at: _by_word(codes[at], at, words, lambda some: compare(_signs(node.value, some), 0))


def _compare_code(codes: np.ndarray, code: int, sign: str) -> Check:
    if sign == "=":
        return lambda at: np.asarray(codes[at] == code) if code >= 0 else np.zeros(_count(at), np.bool_)
    return lambda at: np.asarray((codes[at] != NO_WORD) & (codes[at] != code))


def _by_word(codes: np.ndarray, at: At, words: Words, judge: Callable[[Words], Mask]) -> Mask:
    if not isinstance(at, slice):  # a few items: their own words
        some = Words(words.data, words.starts[codes], words.lengths[codes], len(codes))
        return np.asarray(judge(some) & (codes != NO_WORD))
    # Once for each distinct text rather than for each item.
    verdicts = judge(words)
    verdicts[NO_WORD] = False
    out = np.empty(len(codes), dtype=np.bool_)
    text_kernels.look_up(verdicts, codes, out)
    return out


def _signs(wanted: str, words: Words) -> np.ndarray:
    """(words.size,) int8: -1, 0, 1 as the word comes before, is, or comes after `wanted`."""
    signs = np.empty(words.size, dtype=np.int8)
    data = np.frombuffer(wanted.encode(errors="surrogatepass"), dtype=np.uint8)
    text_kernels.compare_texts(data, words.data, words.starts, words.lengths, words.size, signs)
    return signs


def _holding(part: str, words: Words) -> Mask:
    """(words.size,) bool: whether the casefolded word holds `part`, which is casefolded itself."""
    verdicts = np.empty(words.size, dtype=np.uint8)
    # A text of ASCII alone holds nothing else; what is looked for must then not be looked for in it.
    ascii_part = part if part.isascii() else "\0"
    data = np.frombuffer(ascii_part.encode(), dtype=np.uint8)
    text_kernels.search_texts(data, words.data, words.starts, words.lengths, words.size, verdicts)
    beyond = np.flatnonzero(verdicts == _BEYOND_ASCII)
    verdicts[beyond] = [part in word.casefold() for word in words.texts(beyond)]
    return verdicts.astype(np.bool_)


def _compare_numbers(node: Comparison, column: NumberColumn) -> Check:
    array = column.array
    if _is_presence(node):
        return lambda at: _present(array[at])
    compare = _COMPARE["=" if node.operator == ":" else node.operator]
    number = np.float64(_number(node))
    return lambda at: _present(array[at]) & np.asarray(compare(array[at], number), dtype=np.bool_)


def _present(numbers: np.ndarray) -> Mask:
    if numbers.dtype.kind == "i":
        return np.asarray(numbers != none_of(numbers.dtype))
    return np.asarray(numbers == numbers)  # NaN is not equal to itself


def _compare_times(node: Comparison, times_s: np.ndarray) -> Check:
    if _is_presence(node):
        return lambda at: np.ones(_count(at), dtype=np.bool_)
    compare = _COMPARE["=" if node.operator == ":" else node.operator]
    time_s = _time_s(node)
    return lambda at: np.asarray(compare(times_s[at], time_s), dtype=np.bool_)


def _number(node: Comparison) -> float:
    try:
        value = float(node.value)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise filter_error(node.value_position, f"{node.name!r} is a number, {node.value!r} is none")
    return value


def _time_s(node: Comparison) -> float:
    try:
        value = datetime.fromisoformat(node.value)
    except ValueError:
        text = f'{node.name!r} is a time such as "2026-11-23T10:15:00Z", {node.value!r} is none'
        raise filter_error(node.value_position, text) from None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
