"""The catalogue's attributes as arrays over item keys: what filters are evaluated on. Nothing is written by reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving import text_kernels
from serving.kernels import mark_lists
from serving.rooms import FEW, WHOLE_MAX, grown, lengthened, room_for, store, widened
from serving.texts import TextTable, kept_texts

POOL_GARBAGE_SHARE = 0.5  # of a list column's pool; beyond it, the pool is packed again
POOL_COUNT_MIN = 1_024
WORD_COUNT_MIN = 1_024  # words that are not worth numbering anew
NO_WORD = 0  # the code of a key without a text: words are numbered from 1 on

# For another thread, while nothing is put; what it returns, if anything, is to be called by the event loop's.
Work = Callable[[], Callable[[], None] | None]
Mask = NDArray[np.bool_]
Keys = NDArray[np.int64]
State = tuple[dict[str, Any], dict[str, np.ndarray]]

FLOAT32_MAX = float(np.finfo(np.float32).max)
_WHOLE = {np.dtype(t): (int(np.iinfo(t).min), int(np.iinfo(t).max)) for t in (np.int8, np.int16, np.int32)}


def none_of(dtype: np.dtype[Any]) -> float:
    """What stands for no number in an array of this type: NaN, or the least whole number."""
    return _WHOLE[dtype][0] if dtype in _WHOLE else np.nan


def smallest(values: NDArray[np.float64]) -> np.dtype[Any]:
    """The smallest type that holds every value of (n,) float64, NaN aside, exactly, and the none beside them."""
    values = values[~np.isnan(values)]
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    if np.isfinite(high - low) and (values == np.rint(values)).all():
        for whole, (none, limit) in _WHOLE.items():
            if none < low and high <= limit:
                return whole
    with np.errstate(over="ignore"):  # what is too large is infinite, and differs
        return np.dtype(np.float32 if (values.astype(np.float32) == values).all() else np.float64)


class NumberColumn:
    """A number for each key, none where there is none: in the smallest type that holds all of them exactly."""

    def __init__(self, array: np.ndarray | None = None) -> None:
        self.array = np.zeros(0, dtype=np.int8) if array is None else array

    def put_all(self, keys: Keys, values: Sequence[float | None]) -> None:
        """Puts the numbers of distinct keys (m,), for which there is room."""
        if len(keys) <= FEW and all(value is None or self._holds(value) for value in values):
            none = none_of(self.array.dtype)
            store(self.array, keys, [none if value is None else value for value in values])
            return
        numbers = np.array(values, dtype=np.float64)
        present = ~np.isnan(numbers)
        self._widen(smallest(numbers))
        store(self.array, keys, np.where(present, numbers, none_of(self.array.dtype)))

    def reserve(self, length: int) -> None:
        """Makes room for keys below `length`."""
        self.array = lengthened(self.array, length, none_of(self.array.dtype))

    def work_ahead(self, values: Sequence[float | None]) -> Iterator[Work]:
        """Widens the array, if that must be, to hold values (m,), which are then put."""
        numbers = np.array(values, dtype=np.float64)
        if len(numbers) and not self._is_wide_enough(smallest(numbers)):
            yield partial(self._widen, smallest(numbers))

    def present(self, size: int) -> Mask:
        """(size,) bool: whether the key has a number."""
        array = self.array[:size]
        return np.asarray(array != none_of(array.dtype) if array.dtype.kind == "i" else array == array)

    def view(self, size: int) -> NDArray[np.float64]:
        """(size,) float64, a copy; NaN where there is none."""
        out = np.full(size, np.nan)
        known = self.array[:size]
        np.copyto(out[: len(known)], known, where=self.present(size))
        return out

    def _holds(self, value: float) -> bool:
        if self.array.dtype in _WHOLE:
            none, limit = _WHOLE[self.array.dtype]
            return none < value <= limit and value == int(value)
        return self.array.dtype == np.float64 or (
            abs(value) < FLOAT32_MAX and float(np.float32(value)) == value
        )  # as float32 alone, 0.1 is 0.1

    def _widen(self, dtype: np.dtype[Any]) -> None:
        if self._is_wide_enough(dtype):
            return
        wide = np.promote_types(self.array.dtype, dtype)
        array = self.array.astype(wide)
        array[~self.present(len(self.array))] = none_of(wide)
        self.array = array

    def _is_wide_enough(self, dtype: np.dtype[Any]) -> bool:
        return np.promote_types(self.array.dtype, dtype) == self.array.dtype

    def state(self) -> State:
        """Plain values, and arrays by name."""
        return {}, {"values": self.array}

    @classmethod
    def of_state(cls, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> NumberColumn:
        """The column of `state`."""
        return cls(arrays["values"])


class TextColumn:
    """A text for each key, as the code of its word: in the smallest type that holds all codes."""

    def __init__(self) -> None:
        self.words = TextTable(NO_WORD + 1)
        self.codes: np.ndarray = np.zeros(0, dtype=np.uint8)

    def put_all(self, keys: Keys, values: Sequence[str | None]) -> None:
        """Puts the texts of distinct keys (m,), for which there is room."""
        codes = self.words.numbers_of(values)
        self.codes = widened(self.codes, self.words.size)
        store(self.codes, keys, codes)
        if self._is_worn():
            self._forget()

    def work_ahead(self, count: int) -> Iterator[Work]:
        """What would be due soon if `count` words more were put."""
        if self._is_worn(0.9):
            yield self._without_garbage
        if self.words.size + count > WHOLE_MAX[self.codes.dtype]:
            yield partial(self._widen, self.words.size + count)

    def _widen(self, code_max: int) -> None:
        self.codes = widened(self.codes, code_max)

    def _is_worn(self, share: float = 1.0) -> bool:  # then at least half of the words are nobody's
        return self.words.size > share * max(WORD_COUNT_MIN, 2 * len(self.codes))

    def reserve(self, length: int) -> None:
        """Makes room for keys below `length`."""
        self.codes = lengthened(self.codes, length, NO_WORD)

    def view(self, size: int) -> np.ndarray:
        """(size,) codes, unsigned; NO_WORD where there is no text."""
        return self.codes[:size]

    def value(self, key: int) -> str | None:
        """One key's text."""
        code = int(self.codes[key])
        return None if code == NO_WORD else self.words.text(code)

    def _forget(self) -> None:
        self._without_garbage()()

    def _without_garbage(self) -> Callable[[], None]:
        words, renumbered = kept_texts(self.words, used_codes(self.codes))
        codes = renumbered[self.codes].astype(_code_type(words.size))

        def adopt() -> None:
            self.words, self.codes = words, codes

        return adopt

    def state(self) -> State:
        """Plain values, and arrays by name."""
        params, arrays = self.words.state()
        return params, {**arrays, "codes": self.codes}

    @classmethod
    def of_state(cls, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TextColumn:
        """The column of `state`."""
        column = cls()
        column.words, column.codes = TextTable.of_state(params, arrays), arrays["codes"]
        return column


class ListColumn:
    """Several texts for each key, as runs of codes in one pool. A changed list gets a new run."""

    def __init__(self) -> None:
        self.words = TextTable(NO_WORD + 1)
        self.starts: np.ndarray = np.zeros(0, dtype=np.uint32)
        self.counts: np.ndarray = np.zeros(0, dtype=np.uint8)
        self.pool: np.ndarray = np.zeros(POOL_COUNT_MIN, dtype=np.uint8)
        self._used = 0
        self._garbage = 0

    def put_all(self, keys: Keys, lists: Sequence[Sequence[str]]) -> None:
        """Puts the lists of distinct keys (m,), for which there is room."""
        codes = self.words.numbers_of(list(chain.from_iterable(lists)))
        counts = list(map(len, lists))
        if len(keys) <= FEW and self._has(keys, codes, counts):
            return
        self._garbage += int(self.counts[keys].sum())
        self._append(codes)
        self.starts, self.counts = widened(self.starts, self._used), widened(self.counts, max(counts))
        store(self.starts, keys, self._used - np.cumsum(counts[::-1])[::-1])
        store(self.counts, keys, counts)
        if self._is_worn():
            self._pack()

    def work_ahead(self, count: int) -> Iterator[Work]:
        """What would be due soon if the lists of `count` keys more were put, of twice the usual length to be sure."""
        if self._is_worn(0.9):
            yield self._packed
        used = self._used + 2 * count * (self._used // max(len(self.counts), 1) + 1)
        if used > len(self.pool) or self.words.size + count > WHOLE_MAX[self.pool.dtype]:
            yield partial(self._make_room, used, self.words.size + count)

    def _make_room(self, used: int, code_max: int) -> None:
        self.pool = grown(widened(self.pool, code_max), used, 0)

    def _is_worn(self, share: float = 1.0) -> bool:
        return self._garbage > share * max(POOL_COUNT_MIN, POOL_GARBAGE_SHARE * self._used)

    def reserve(self, length: int) -> None:
        """Makes room for keys below `length`."""
        self.starts, self.counts = lengthened(self.starts, length, 0), lengthened(self.counts, length, 0)

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
        out = np.zeros(size, dtype=np.bool_)
        np.greater(self.counts[:size], 0, out=out[: len(self.counts)])
        return out

    def values(self, key: int) -> list[str]:
        """One key's list."""
        start = int(self.starts[key])
        return self.words.texts(self.pool[start : start + int(self.counts[key])].astype(np.int64))

    def _has(self, keys: Keys, codes: list[int], counts: list[int]) -> bool:
        if self.counts[keys].tolist() != counts:
            return False
        runs = [self.pool[s : s + n] for s, n in zip(self.starts[keys].tolist(), counts, strict=True)]
        return bool(np.concatenate(runs).tolist() == codes)

    def _append(self, codes: list[int]) -> None:
        used = self._used + len(codes)
        self.pool = grown(widened(self.pool, self.words.size), used, 0)
        self.pool[self._used : used] = codes
        self._used = used

    def _pack(self) -> None:
        self._packed()()

    def _packed(self) -> Callable[[], None]:
        """Makes all of it beside what is there; who reads meanwhile has the one or the other."""
        packed = np.zeros(room_for(self._used - self._garbage), dtype=self.pool.dtype)
        starts = self.starts.copy()
        used = text_kernels.pack_runs(starts, self.counts, self.pool, packed)
        words, renumbered = kept_texts(self.words, used_codes(packed[:used]))
        pool = renumbered[packed].astype(_code_type(words.size))

        def adopt() -> None:
            self.starts, self.pool, self.words, self._used, self._garbage = starts, pool, words, used, 0

        return adopt

    def state(self) -> State:
        """Plain values, and arrays by name."""
        params, arrays = self.words.state()
        own = {"list_starts": self.starts, "list_counts": self.counts, "pool": self.pool}
        return {**params, "pool": self._used, "garbage": self._garbage}, {**arrays, **own}

    @classmethod
    def of_state(cls, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ListColumn:
        """The column of `state`."""
        column = cls()
        column.words = TextTable.of_state(params, arrays)
        column.starts, column.counts = arrays["list_starts"], arrays["list_counts"]
        column.pool, column._used, column._garbage = arrays["pool"], params["pool"], params["garbage"]
        return column


def used_codes(codes: np.ndarray) -> NDArray[np.int64]:
    """(k,) the codes that occur in (n,), ascending, NO_WORD left out."""
    return np.flatnonzero(np.bincount(codes)[1:]) + 1


def _code_type(word_count: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if word_count <= 0xFF else np.uint16 if word_count <= 0xFFFF else np.uint32
