"""Serving's view of the items: arrays over item keys, and the way from the caller's ids to keys and back.

The event loop's thread alone reads and writes it: a request between two of its awaits sees one state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from serving import limits
from serving.columns import ListColumn, NumberColumn, TextColumn, grown

NEVER_S = np.inf
CATEGORY_BITS = 64


@dataclass(frozen=True)
class ItemRow:
    """One item as Postgres has it; times in unix seconds."""

    key: int
    id: str
    title: str
    categories: Sequence[str]
    tags: Sequence[str]
    numbers: dict[str, float]
    texts: dict[str, str]
    create_s: float
    expire_s: float  # NEVER_S if it does not expire
    available: bool
    deleted: bool


class Catalogue:
    """All items that were ever upserted, deleted ones included: keys are never reused."""

    def __init__(self) -> None:
        self.size = 0  # one more than the largest key
        self.revision = 0  # changes with every change: what is derived from the view is kept by it
        self.categories, self.tags = ListColumn(), ListColumn()
        self.title = TextColumn()
        self.numbers: dict[str, NumberColumn] = {}
        self.texts: dict[str, TextColumn] = {}
        self.next_expire_s = NEVER_S
        self._told_of_attributes = False
        self._ids: list[str] = []
        self._keys: dict[str, int] = {}
        self._created = np.zeros(0)
        self._expires = np.zeros(0)
        self._deleted: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._offered: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)  # available and not deleted
        self._usable: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)  # offered and not expired
        self._category_bits: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(size,) bool: available, not deleted, not expired as of the last `expire`."""
        return self._usable[: self.size]

    @property
    def created_s(self) -> NDArray[np.float64]:
        """(size,) float64 unix seconds."""
        return self._created[: self.size]

    @property
    def category_bits(self) -> NDArray[np.uint64]:
        """(size,) uint64: a bit for each category, folded to 64. For likeness, not for filters."""
        return self._category_bits[: self.size]

    def key_of(self, item_id: str) -> int | None:
        """The item's key; None if it is unknown or deleted."""
        key = self._keys.get(item_id)
        return None if key is None or self._deleted[key] else key

    def keys_of(self, item_ids: Iterable[str]) -> NDArray[np.int32]:
        """(m,) int32 keys of those that are known, in the ids' order."""
        found = (self.key_of(item_id) for item_id in item_ids)
        return np.array([key for key in found if key is not None], dtype=np.int32)

    def id_of(self, key: int) -> str:
        """The caller's id of a key."""
        return self._ids[key]

    def apply(self, rows: Iterable[ItemRow], now_s: float) -> None:
        """Takes the rows over as they are now."""
        for row in rows:
            self._put(row, now_s)
        self.next_expire_s = self._next_expire_s()
        self.revision += 1

    def expire(self, now_s: float) -> None:
        """Takes expired items out. Cheap before `next_expire_s`: call it with every request."""
        if now_s < self.next_expire_s:
            return
        np.logical_and(self._offered, self._expires > now_s, out=self._usable)
        self.next_expire_s = self._next_expire_s()
        self.revision += 1

    def _next_expire_s(self) -> float:
        return float(self._expires[: self.size].min(initial=NEVER_S, where=self.usable))

    def _put(self, row: ItemRow, now_s: float) -> None:
        self._grow(row.key + 1)
        key = row.key
        self._ids[key], self._keys[row.id] = row.id, key
        self._created[key], self._expires[key] = row.create_s, row.expire_s
        self._deleted[key] = row.deleted
        self._offered[key] = row.available and not row.deleted
        self._usable[key] = self._offered[key] and row.expire_s > now_s
        bits = {hash_bit(name) for name in row.categories}
        self._category_bits[key] = sum(1 << bit for bit in bits)
        self.categories.put(key, row.categories)
        self.tags.put(key, row.tags)
        self.title.put(key, row.title or None)
        self._put_attributes(row)

    def _put_attributes(self, row: ItemRow) -> None:
        for name in row.numbers.keys() - self.numbers.keys():
            if self._may_add(name):
                self.numbers[name] = NumberColumn()
        for name in row.texts.keys() - self.texts.keys():
            if self._may_add(name):
                self.texts[name] = TextColumn()
        for name, numbers in self.numbers.items():
            numbers.put(row.key, row.numbers.get(name))
        for name, texts in self.texts.items():
            texts.put(row.key, row.texts.get(name))

    def _may_add(self, name: str) -> bool:
        if len(self.numbers) + len(self.texts) < limits.ATTRIBUTE_COUNT_MAX:
            return True
        if self._told_of_attributes:  # once: it may be so for each attribute of each item
            return False
        self._told_of_attributes = True
        structlog.get_logger().warning(
            "too many attributes; filters do not know this one",
            attribute=name,
            count_max=limits.ATTRIBUTE_COUNT_MAX,
        )
        return False

    def _grow(self, size: int) -> None:
        if size <= self.size:
            return
        self._ids.extend([""] * (size - self.size))
        self.size = size
        self._created, self._expires = grown(self._created, size, 0), grown(self._expires, size, NEVER_S)
        self._deleted, self._offered = grown(self._deleted, size, True), grown(self._offered, size, False)
        self._usable = grown(self._usable, size, False)
        self._category_bits = grown(self._category_bits, size, 0)


def hash_bit(name: str) -> int:
    """The bit of a category, 0..63: the same in every process, which Python's own hash is not."""
    value = 0
    for byte in name.encode():
        value = (value * 31 + byte) & 0xFFFFFFFF
    return (value ^ (value >> 16)) % CATEGORY_BITS
