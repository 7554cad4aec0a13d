"""What a filter means: a tree and the catalogue -> a boolean array over item keys.

Names are `categories`, `tags`, `title`, `create_time` and the items' own attributes. Lists know `:` (holds this entry),
texts know comparisons and `:` (contains, case does not matter), numbers and times know comparisons; `name:*` asks whether there
is a value at all. A comparison with something that an item does not have is false, `!=` included.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from serving import text_kernels
from serving.catalogue import Catalogue
from serving.columns import NO_WORD, ListColumn, Mask, NumberColumn, TextColumn
from serving.filter_syntax import Comparison, Junction, Node, Not, filter_error
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


def evaluate(node: Node | None, catalogue: Catalogue) -> Mask:
    """(catalogue.size,) bool: for which keys the filter holds. CallerError FILTER_INVALID names the position."""
    match node:
        case None:
            return np.ones(catalogue.size, dtype=np.bool_)
        case Not(inner):
            return np.logical_not(evaluate(inner, catalogue))
        case Junction(word, parts):
            join = np.logical_and if word == "AND" else np.logical_or
            masks = [evaluate(part, catalogue) for part in parts]
            return np.asarray(join.reduce(masks), dtype=np.bool_)
        case Comparison():
            return _compare(node, catalogue)


def _compare(node: Comparison, catalogue: Catalogue) -> Mask:
    lists = {"categories": catalogue.categories, "tags": catalogue.tags}
    if node.name in lists:
        return _compare_list(node, lists[node.name], catalogue.size)
    if node.name == "title":
        return _compare_text(node, catalogue.title, catalogue.size)
    if node.name == TIME:
        return _compare_times(node, catalogue.created_s)
    return _compare_attribute(node, catalogue)


def _compare_attribute(node: Comparison, catalogue: Catalogue) -> Mask:
    numbers, texts = catalogue.numbers.get(node.name), catalogue.texts.get(node.name)
    if texts is not None and (numbers is None or node.quoted):
        return _compare_text(node, texts, catalogue.size)
    if numbers is not None:
        return _compare_numbers(node, numbers, catalogue.size)
    raise filter_error(node.position, f"no item has an attribute {node.name!r}")


def _is_presence(node: Comparison) -> bool:
    return node.operator == ":" and node.value == "*" and not node.quoted


def _compare_list(node: Comparison, column: ListColumn, size: int) -> Mask:
    if node.operator != ":":
        raise filter_error(node.position, f"{node.name!r} is a list: ask with ':', as in {node.name}:\"x\"")
    return column.filled(size) if _is_presence(node) else column.having(node.value, size)


def _compare_text(node: Comparison, column: TextColumn, size: int) -> Mask:
    codes = column.view(size)
    if _is_presence(node):
        return np.asarray(codes != NO_WORD)
    if node.operator == ":":
        return _by_word(codes, _words_holding(node.value.casefold(), column.words))
    if node.operator in ("=", "!="):
        # Without a pass over all words: this is what most filters ask.
        code = column.words.find(node.value)
        equal = codes == code if code >= 0 else np.zeros(size, dtype=np.bool_)
        return np.asarray(equal if node.operator == "=" else (codes != NO_WORD) & ~equal)
    return _by_word(codes, _COMPARE[node.operator](_signs(node.value, column.words), 0))


def _by_word(codes: np.ndarray, verdicts: Mask) -> Mask:
    # Once for each distinct text rather than for each item.
    verdicts[NO_WORD] = False
    out = np.empty(len(codes), dtype=np.bool_)
    text_kernels.look_up(verdicts, codes, out)
    return out


def _signs(wanted: str, words: TextTable) -> np.ndarray:
    """(words.size,) int8: -1, 0, 1 as the word comes before, is, or comes after `wanted`."""
    signs = np.empty(words.size, dtype=np.int8)
    data = np.frombuffer(wanted.encode(errors="surrogatepass"), dtype=np.uint8)
    text_kernels.compare_texts(data, words.data, words.starts, words.lengths, words.size, signs)
    return signs


def _words_holding(part: str, words: TextTable) -> Mask:
    """(words.size,) bool: whether the casefolded word holds `part`, which is casefolded itself."""
    verdicts = np.empty(words.size, dtype=np.uint8)
    # A text of ASCII alone holds nothing else; what is looked for must then not be looked for in it.
    ascii_part = part if part.isascii() else "\0"
    data = np.frombuffer(ascii_part.encode(), dtype=np.uint8)
    text_kernels.search_texts(data, words.data, words.starts, words.lengths, words.size, verdicts)
    beyond = np.flatnonzero(verdicts == _BEYOND_ASCII)
    verdicts[beyond] = [part in word.casefold() for word in words.texts(beyond.astype(np.int32))]
    return verdicts.astype(np.bool_)


def _compare_numbers(node: Comparison, column: NumberColumn, size: int) -> Mask:
    present = column.present(size)
    if _is_presence(node):
        return present
    compare = _COMPARE["=" if node.operator == ":" else node.operator]
    return present & np.asarray(compare(column.array[:size], np.float64(_number(node))), dtype=np.bool_)


def _compare_times(node: Comparison, times_s: np.ndarray) -> Mask:
    if _is_presence(node):
        return np.ones(len(times_s), dtype=np.bool_)
    compare = _COMPARE["=" if node.operator == ":" else node.operator]
    return np.asarray(compare(times_s, _time_s(node)), dtype=np.bool_)


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
