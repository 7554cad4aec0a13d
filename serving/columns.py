"""The catalogue's attributes as arrays over item keys: what filters are evaluated on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from serving.kernels import mark_lists

POOL_GARBAGE_SHARE = 0.5  # of a list column's pool; beyond it, the pool is packed again
POOL_COUNT_MIN = 1_024
WORD_COUNT_MIN = 1_024  # words that are not worth numbering anew

Mask = NDArray[np.bool_]


def grown(array: np.ndarray, size: int, fill: float) -> np.ndarray:
    """The array with room for `size` values, the new ones `fill`; at least doubled, so that appending stays cheap."""
    if size <= len(array):
        return array
    bigger = np.full(max(size, 2 * len(array)), fill, dtype=array.dtype)
    bigger[: len(array)] = array
    return bigger


class Words:
    """Texts numbered in the order in which they came."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The text's number; a new one if it has none yet."""
        code = self._codes.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code

    def find(self, text: str) -> int:
        """The text's number, -1 if it has none."""
        return self._codes.get(text, -1)


def kept_words(words: Words, codes: NDArray[np.int32]) -> tuple[Words, NDArray[np.int32]]:
    """Words that `codes` (n,) still names, -1 left as it is, and the codes by their new numbers."""
    kept, renumbered = Words(), np.full(len(words.texts) + 1, -1, dtype=np.int32)  # the last is what -1 reads
    for code in np.unique(codes[codes >= 0]).tolist():
        renumbered[code] = kept.code(words.texts[code])
    return kept, renumbered[codes]


class NumberColumn:
    """A number for each key, NaN where there is none."""

    def __init__(self) -> None:
        self.values: NDArray[np.float64] = np.zeros(0)

    def put(self, key: int, value: float | None) -> None:
        if value is None and key >= len(self.values):
            return
        self.values = grown(self.values, key + 1, np.nan)
        self.values[key] = np.nan if value is None else value

    def view(self, size: int) -> NDArray[np.float64]:
        """(size,) float64."""
        self.values = grown(self.values, size, np.nan)
        return self.values[:size]


class TextColumn:
    """A text for each key, as a number of its word; -1 where there is none."""

    def __init__(self) -> None:
        self.words = Words()
        self.codes: NDArray[np.int32] = np.zeros(0, dtype=np.int32)

    def put(self, key: int, value: str | None) -> None:
        if value is None and key >= len(self.codes):
            return
        self.codes = grown(self.codes, key + 1, -1)
        self.codes[key] = -1 if value is None else self.words.code(value)
        if len(self.words.texts) > max(WORD_COUNT_MIN, 2 * len(self.codes)):  # at least half are nobody's
            self.words, self.codes = kept_words(self.words, self.codes)

    def view(self, size: int) -> NDArray[np.int32]:
        """(size,) int32."""
        self.codes = grown(self.codes, size, -1)
        return self.codes[:size]


class ListColumn:
    """Several texts for each key, as runs in one pool of word numbers. A changed list gets a new run."""

    def __init__(self) -> None:
        self.words = Words()
        self.starts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.counts: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.pool: NDArray[np.int32] = np.zeros(POOL_COUNT_MIN, dtype=np.int32)
        self._used = 0
        self._garbage = 0

    def put(self, key: int, values: Iterable[str]) -> None:
        codes = [self.words.code(value) for value in values]
        self.starts, self.counts = grown(self.starts, key + 1, 0), grown(self.counts, key + 1, 0)
        self._garbage += int(self.counts[key])
        self.pool = grown(self.pool, self._used + len(codes), 0)
        self.pool[self._used : self._used + len(codes)] = codes
        self.starts[key], self.counts[key] = self._used, len(codes)
        self._used += len(codes)
        if self._garbage > max(POOL_COUNT_MIN, POOL_GARBAGE_SHARE * self._used):
            self._pack()

    def having(self, text: str, size: int) -> Mask:
        """(size,) bool: whether the key's list holds `text`."""
        out = np.zeros(size, dtype=np.bool_)
        code = self.words.find(text)
        if code >= 0:
            known = min(size, len(self.counts))
            mark_lists(self.starts[:known], self.counts[:known], self.pool, np.int32(code), out)
        return out

    def filled(self, size: int) -> Mask:
        """(size,) bool: whether the key's list holds anything."""
        self.starts, self.counts = grown(self.starts, size, 0), grown(self.counts, size, 0)
        return self.counts[:size] > 0

    def _pack(self) -> None:
        runs = [
            self.pool[start : start + count] for start, count in zip(self.starts, self.counts, strict=True)
        ]
        self.words, packed = kept_words(self.words, np.concatenate(runs) if runs else self.pool[:0])
        self.starts = np.concatenate([[0], np.cumsum(self.counts[:-1], dtype=np.int64)])
        self.pool, self._used, self._garbage = (
            grown(packed, POOL_COUNT_MIN, 0),
            len(packed),
            0,
        )
