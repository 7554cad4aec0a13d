"""A table of texts: each has a number, a number has its text; arrays alone, so that it can be mapped from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving import text_kernels
from serving.rooms import WHOLE_MAX, grown, lengthened, widened

SLOT_LOAD_MAX = 0.6  # of the hash table; beyond, runs of taken slots get long
SLOT_COUNT_MIN = 64
SMALL_COUNT_MAX = 16_384  # texts that are put into a larger table of slots within 1 ms
REMEMBERED_COUNT_MAX = 8_192  # texts whose numbers are kept in a dict while many are put: about 1 MB a table
RESTING_COUNT_MAX = 512  # and afterwards, for the single changes: at most some 60 KB
NUL = "\0"

Numbers = NDArray[np.int32]


class TextTable:
    """Texts by number, from `first_number` on, and back. Texts are added, never taken out."""

    def __init__(self, first_number: int = 0) -> None:
        self.size = first_number  # one more than the largest number
        self.used, self.taken = 1, 0  # bytes of data, slots
        self.data = np.zeros(SLOT_COUNT_MIN, dtype=np.uint8)
        self.starts: np.ndarray = np.zeros(SLOT_COUNT_MIN, dtype=np.uint32)
        self.lengths: np.ndarray = np.zeros(
            SLOT_COUNT_MIN, dtype=np.uint16
        )  # 8 bits would mean kernels of both kinds
        self.slots: Numbers = np.zeros(SLOT_COUNT_MIN, dtype=np.int32)
        self._remembered: dict[str, int] = {}

    def find(self, text: str) -> int:
        """The text's number, -1 if it has none."""
        return int(self.find_all([text])[0])

    def find_all(self, texts: Sequence[str]) -> Numbers:
        """(m,) int32 numbers, -1 for those that have none."""
        numbers = np.empty(len(texts), dtype=np.int32)
        if not len(texts):
            return numbers
        joined = NUL.join(texts)
        if joined.count(NUL) != len(texts) - 1:  # a caller's text with a NUL: nothing has that
            return np.array([-1 if NUL in text else self.find(text) for text in texts], dtype=np.int32)
        self._find(_bytes(joined), numbers)
        return numbers

    def _find(self, data: NDArray[np.uint8], numbers: Numbers) -> None:
        text_kernels.find_texts(data, self.data, self.starts, self.lengths, self.slots, numbers)

    def put(self, numbers: Numbers, texts: Sequence[str]) -> None:
        """Puts each text under its number (m,) int32; -1 asks for a number and is written over with it."""
        self.put_bytes(numbers, _bytes(NUL.join(texts)))

    def put_bytes(self, numbers: Numbers, data: NDArray[np.uint8]) -> None:
        """As `put`, of texts as `joined` gives them."""
        longest = len(data) if len(data) <= WHOLE_MAX[self.lengths.dtype] else _longest(data)
        self._make_room(data, numbers, longest)
        self.size, self.used, taken = text_kernels.put_texts(
            data, numbers, self.size, self.data, self.used, self.starts, self.lengths, self.slots
        )
        self.taken += taken

    def numbers_of(self, texts: Sequence[str | None]) -> list[int]:
        """The numbers of texts that repeat much; new texts get new ones, and None gets 0."""
        remembered = self._remembered
        remembered[None] = 0  # type: ignore[index]  # what has no text, without a second pass over all of them
        found: list[Any] = list(map(remembered.get, texts))  # type: ignore[arg-type]
        if None in found:
            missing = list(dict.fromkeys(t for t, n in zip(texts, found, strict=True) if n is None))
            remembered.update(zip(missing, self._add(missing), strict=True))  # type: ignore[arg-type]
            found = list(map(remembered.get, texts))  # type: ignore[arg-type]
            if len(remembered) > REMEMBERED_COUNT_MAX:
                remembered.clear()
        return found

    def rest(self) -> None:
        """After many changes: gives the memory back that they went faster with."""
        if len(self._remembered) > RESTING_COUNT_MAX:
            self._remembered = {}

    def _add(self, texts: Sequence[Any]) -> list[int]:
        numbers = np.full(len(texts), -1, dtype=np.int32)
        self.put(numbers, texts)
        return numbers.tolist()

    def text(self, number: int) -> str:
        """The number's text; "" if it has none. IndexError beyond `size`."""
        if not 0 <= number < self.size:
            raise IndexError(f"there is no text number {number} of {self.size}")
        start = int(self.starts[number])
        return self.data[start : start + int(self.lengths[number])].tobytes().decode(errors="surrogatepass")

    def texts(self, numbers: np.ndarray) -> list[str]:
        """The texts of numbers (m,), each below `size`."""
        data = self.joined(numbers)
        return data.tobytes().decode(errors="surrogatepass").split(NUL) if len(numbers) else []

    def joined(self, numbers: np.ndarray) -> NDArray[np.uint8]:
        """(b,) uint8: the texts of numbers (m,), a NUL between two."""
        arrays = self.data, self.starts, self.lengths
        texts = np.empty(64 * (len(numbers) + 1), dtype=np.uint8)
        size = text_kernels.read_texts(numbers, *arrays, texts)
        if size > len(texts):
            texts = np.empty(size, dtype=np.uint8)
            text_kernels.read_texts(numbers, *arrays, texts)
        texts.flags.writeable = False  # as the bytes of a str are: kernels are compiled for that alone
        return texts[: max(size - 1, 0)]

    def reserve(self, length: int) -> None:
        """Makes room for numbers below `length`, each with a text of its own."""
        self.starts, self.lengths = lengthened(self.starts, length, 0), lengthened(self.lengths, length, 0)
        self._make_slots(length)

    def work_ahead(self, count: int) -> Iterator[Callable[[], None]]:
        """Where something would grow soon if `count` more texts were put, of twice the usual length to be sure: that it does.

        For another thread: arrays are replaced by longer ones with the same in them. A small table grows in no time.
        """
        if self.taken < SMALL_COUNT_MAX:
            return
        has_room = self._usual(count) <= len(self.data) and self.size + count <= len(self.starts)
        if not has_room or self.taken + count > SLOT_LOAD_MAX * len(self.slots):
            yield partial(self._reserve, count)

    def _reserve(self, count: int) -> None:
        self.data, size = grown(self.data, self._usual(count), 0), self.size + count
        self.starts, self.lengths = grown(self.starts, size, 0), grown(self.lengths, size, 0)
        self._make_slots(self.taken + count)

    def _usual(self, count: int) -> int:
        return self.used + 2 * count * (self.used // max(self.taken, 1) + 1)

    def _make_room(self, data: NDArray[np.uint8], numbers: Numbers, longest: int) -> None:
        used = self.used + len(data)
        self.data = grown(self.data, used, 0)
        self.starts, self.lengths = widened(self.starts, used), widened(self.lengths, longest)
        size = max(self.size + len(numbers), int(numbers.max(initial=0)) + 1)
        self.starts, self.lengths = grown(self.starts, size, 0), grown(self.lengths, size, 0)
        self._make_slots(self.taken + len(numbers))

    def _make_slots(self, taken: int) -> None:
        if taken <= SLOT_LOAD_MAX * len(self.slots):
            return
        count = 1 << int(np.ceil(np.log2(taken / SLOT_LOAD_MAX)))
        slots = np.zeros(count, dtype=np.int32)
        self.taken = text_kernels.fill_slots(self.data, self.starts, self.lengths, self.size, slots)
        self.slots = slots

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `of_state` makes the same table from: plain values, and arrays by name."""
        arrays = {"data": self.data, "starts": self.starts, "lengths": self.lengths, "slots": self.slots}
        return {"size": self.size, "used": self.used, "taken": self.taken}, arrays

    @classmethod
    def of_state(cls, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TextTable:
        """The table of `state`; the arrays become its own."""
        table = cls()
        table.size, table.used, table.taken = params["size"], params["used"], params["taken"]
        table.data, table.starts = arrays["data"], arrays["starts"]
        table.lengths, table.slots = arrays["lengths"], arrays["slots"]
        return table


def kept_texts(table: TextTable, kept: NDArray[np.int64]) -> tuple[TextTable, Numbers]:
    """A table of the texts numbered `kept` (k,) > 0 alone, from 1 on, and the new number by old one: (size,) int32, 0 for none."""
    small, renumbered = TextTable(1), np.zeros(table.size, dtype=np.int32)
    numbers = np.full(len(kept), -1, dtype=np.int32)
    if len(kept):
        small.put_bytes(numbers, table.joined(kept))
    renumbered[kept] = numbers
    return small, renumbered


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(errors="surrogatepass"), dtype=np.uint8)


def _longest(data: NDArray[np.uint8]) -> int:
    ends = np.concatenate([[-1], np.flatnonzero(data == 0), [len(data)]])
    return int(np.diff(ends).max()) - 1
