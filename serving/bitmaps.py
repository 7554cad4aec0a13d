"""Compiled filters: a bit for each item key, kept by the filter's normal form, whatever the model.

A bitmap that is asked for catches up with the items that changed since it was asked for last. Where there are too many of
those, or where attributes came that may change what the filter's names mean, it is compiled anew.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving import limits
from serving.bit_kernels import WORD_BITS, packed, read_bits, unpacked, write_bits
from serving.catalogue import Catalogue
from serving.filter_syntax import normal_form, parse
from serving.filters import Bound, bind
from serving.rooms import lengthened, room_for

Keys = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass
class Bitmap:
    """Which items a filter passes, usable or not. Of the event loop's thread, which alone writes it."""

    words: NDArray[np.uint64]  # (>= size / 64,) uint64, zero beyond size
    size: int  # keys
    count: int  # keys that pass
    revision: int  # of the catalogue
    layout: int  # of the catalogue

    def holds(self, keys: Keys) -> Mask:
        """(m,) bool: for which of keys (m,) int32 the filter holds; false for keys that it does not know."""
        out = np.empty(len(keys), dtype=np.bool_)
        read_bits(self.words, keys, out)
        return out

    def mask(self) -> Mask:
        """(size,) bool over keys."""
        return unpacked(self.words, self.size)

    @property
    def size_bytes(self) -> int:
        return self.words.nbytes

    def copy(self) -> Bitmap:
        """Another one, for another thread."""
        return replace(self, words=self.words.copy())

    def put(self, keys: Keys, passes: Mask, size: int) -> None:
        """The keys (m,) pass or not from now on; there are `size` keys now."""
        self.size = max(self.size, size)
        count = -(-self.size // WORD_BITS)
        if count > len(self.words):
            self.words = lengthened(self.words, room_for(count), 0)
        self.count += write_bits(self.words, keys, passes)


@dataclass(frozen=True)
class Unfilled:
    """A bitmap that is yet to be compiled, on any thread: the filter as of one moment, and which moment that was."""

    bound: Bound
    revision: int
    layout: int

    def filled(self) -> Bitmap:
        """Asks the filter about every item. O(items)."""
        mask = self.bound.all()
        return Bitmap(packed(mask), len(mask), int(np.count_nonzero(mask)), self.revision, self.layout)


class Bitmaps:
    """The bitmaps of the filters of late, within BITMAP_BYTES_MAX."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._kept: OrderedDict[str, Bitmap] = OrderedDict()
        self._bytes = 0

    def of(self, filter_text: str) -> Bitmap:
        """The filter's bitmap as of now. CallerError FILTER_INVALID if it can't be read."""
        name = normal_form(filter_text)
        found = self._kept.get(name)
        if found is None or not self._catches_up(found, filter_text):
            found = self.unfilled(filter_text).filled()
            self.keep(filter_text, found)
        self._kept.move_to_end(name)
        return found

    def has(self, filter_text: str) -> bool:
        """Whether `of` need not ask about every item."""
        found = self._kept.get(normal_form(filter_text))
        if found is None or found.layout != self._catalogue.layout:
            return False
        keys = self._catalogue.changes_since(found.revision)
        return keys is not None and len(keys) <= limits.CATCH_UP_COUNT_MAX

    def unfilled(self, filter_text: str) -> Unfilled:
        """What a thread compiles: `keep` what it returns; `of` then catches up with what has changed meanwhile."""
        catalogue = self._catalogue
        return Unfilled(bind(parse(filter_text), catalogue), catalogue.revision, catalogue.layout)

    def keep(self, filter_text: str, bitmap: Bitmap) -> None:
        """Takes a compiled bitmap in."""
        name = normal_form(filter_text)
        before = self._kept.pop(name, None)
        self._kept[name] = bitmap
        self._bytes += bitmap.size_bytes - (before.size_bytes if before else 0)
        while self._bytes > limits.BITMAP_BYTES_MAX and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.size_bytes

    def _catches_up(self, found: Bitmap, filter_text: str) -> bool:
        catalogue = self._catalogue
        if found.revision == catalogue.revision:
            return True
        keys = catalogue.changes_since(found.revision)
        if keys is None or found.layout != catalogue.layout:
            return False
        before = found.size_bytes
        passes = bind(parse(filter_text), catalogue).of(keys.astype(np.int64))
        found.put(keys, passes, catalogue.size)
        found.revision = catalogue.revision
        self._bytes += found.size_bytes - before
        return True
