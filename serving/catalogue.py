"""Serving's view of the items: arrays over item keys, and the way from the caller's ids to keys and back.

The event loop's thread alone reads and writes it: a request between two of its awaits sees one state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Stage

from serving import limits
from serving.change_log import ChangeLog
from serving.columns import ListColumn, NumberColumn, State, TextColumn, Work
from serving.expiry import NEVER_S as NEVER_S
from serving.expiry import Expiries, earliest_after
from serving.rooms import lengthened, room_for, store
from serving.texts import TextTable

CATEGORY_BITS = 64
DELETED, OFFERED = 1, 2  # flags of a key; offered: available and not deleted


class ItemRow(NamedTuple):
    """One item as Postgres has it; times in unix seconds."""

    key: int
    id: str
    title: str
    categories: Sequence[str]
    tags: Sequence[str]
    numbers: Mapping[str, float]
    texts: Mapping[str, str]
    create_s: float
    expire_s: float | None  # NEVER_S or None if it does not expire
    available: bool
    deleted: bool


class Catalogue:
    """All items that were ever upserted, deleted ones included: keys are never reused."""

    def __init__(self) -> None:
        self.size = 0  # one more than the largest key
        self.layout = (
            0  # changes with every new attribute: what a filter's names mean may then be something else
        )
        self.categories, self.tags = ListColumn(), ListColumn()
        self.title = TextColumn()
        self.numbers: dict[str, NumberColumn] = {}
        self.texts: dict[str, TextColumn] = {}
        self._told_of_attributes = False
        self._log = ChangeLog()
        self._expiries = Expiries()
        self._expired_s = -NEVER_S  # what had expired by then is out
        self._ids = TextTable()
        self._created = np.zeros(0)
        self._expires = np.zeros(0)
        self._flags: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
        self._usable: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)  # offered and not expired
        self._category_bits: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)

    @property
    def revision(self) -> int:
        """Changes with every change: what is derived from the view is kept by it."""
        return self._log.revision

    def changes_since(self, revision: int) -> NDArray[np.int32] | None:
        """(m,) int32 distinct keys of what changed or expired since; None where that is too much, or too long ago, to be told."""
        return self._log.since(revision)

    @property
    def next_expire_s(self) -> float:
        """When the next item may expire: none does before."""
        return self._expiries.next_s

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(size,) bool: available, not deleted, not expired as of the last `expire`."""
        return self._usable[: self.size]

    @property
    def usable_count(self) -> int:
        """How many items may be answered."""
        return int(np.count_nonzero(self.usable))

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
        key = self._ids.find(item_id)
        return None if key < 0 or self._flags[key] & DELETED else key

    def any_key_of(self, item_id: str) -> int:
        """The item's key, deleted or not; -1 if it was never upserted."""
        return self._ids.find(item_id)

    def standing_of(self, key: int) -> Stage.ValueType | None:
        """Why the key may not be answered whatever is asked; None if it may."""
        if key < 0:
            return Stage.STAGE_UNKNOWN
        if self._usable[key]:
            return None
        if self._flags[key] & DELETED:
            return Stage.STAGE_DELETED
        return Stage.STAGE_EXPIRED if self._flags[key] & OFFERED else Stage.STAGE_UNAVAILABLE

    def find(self, item_ids: Iterable[str]) -> NDArray[np.int32]:
        """(m,) int32 keys in the ids' order, -1 for those that are unknown or deleted."""
        keys = self._ids.find_all(list(item_ids))
        if not len(keys):  # most requests name none
            return keys
        known = np.flatnonzero(keys >= 0)
        keys[known[self._flags[keys[known]] & DELETED != 0]] = -1
        return keys

    def keys_of(self, item_ids: Iterable[str]) -> NDArray[np.int32]:
        """(m,) int32 keys of those that are known, in the ids' order."""
        keys = self.find(item_ids)
        return keys[keys >= 0]

    def id_of(self, key: int) -> str:
        """The caller's id of a key."""
        return self._ids.text(key)

    def ids_of(self, keys: NDArray[np.int32] | Sequence[int]) -> list[str]:
        """The caller's ids of keys (m,), each one that an item has."""
        return self._ids.texts(np.asarray(keys, dtype=np.int32))

    def joined_ids_of(self, keys: NDArray[np.int32]) -> NDArray[np.uint8]:
        """(b,) uint8, as `ids_of` in utf-8, a NUL between two: for what is written to the wire as it is."""
        return self._ids.joined(keys)

    def apply(self, rows: Iterable[ItemRow], now_s: float) -> None:
        """Takes the rows, with the fields of ItemRow in its order, over as they are now; of a key's rows the last."""
        rest = iter(rows)
        while batch := list(islice(rest, limits.CATALOG_BATCH_ROW_COUNT)):
            self._put(list({row[0]: row for row in batch}.values()), now_s)

    def withdraw(self, keys: NDArray[np.int64]) -> None:
        """Items (m,) that may be answered no more; why, and what else became of them, comes with their rows."""
        keys = keys[keys < self.size]
        keys = keys[self._flags[keys] & OFFERED != 0]
        self._flags[keys] &= ~np.uint8(OFFERED)
        self._usable[keys] = False
        self._log.note(keys.astype(np.int32))

    def expire(self, now_s: float) -> None:
        """Takes expired items out. Cheap before `next_expire_s`: call it with every request."""
        self._expired_s = max(self._expired_s, now_s)
        if now_s < self._expiries.next_s:
            return
        keys = self._expiries.due(now_s)
        if keys is None:
            keys = self._use(now_s)
        else:
            keys = np.unique(keys[self._usable[keys] & (self._expires[keys] <= now_s)])
            self._usable[keys] = False
        self._log.note(keys)

    def _use(self, now_s: float) -> NDArray[np.int32]:
        """Looks at every item, and begins with the times anew; returns the keys that may be answered no more.

        Of many items the times are left for another thread to put in order: that takes 100 ms for a million, this 3 ms.
        """
        self._expired_s = max(self._expired_s, now_s)
        size, before = self.size, self.usable.copy()  # while room is made, arrays differ in length
        np.logical_and(self._flags[:size] & OFFERED, self._expires[:size] > now_s, out=self._usable[:size])
        expires = self._expires[:size]
        if size < limits.CATALOG_STEPS_ITEM_COUNT:
            self._expiries.start_over(expires, now_s)
        else:
            self._expiries.leave_out(earliest_after(expires, now_s))
        return np.flatnonzero(before & ~self.usable).astype(np.int32)

    def _put(self, rows: list[ItemRow], now_s: float) -> None:
        fields = ItemRow(*zip(*rows, strict=True))  # type: ignore[arg-type]  # each field now holds all rows' values
        keys = np.array(fields.key, dtype=np.int64)
        self.reserve(int(keys.max()) + 1)
        self.size = max(self.size, int(keys.max()) + 1)
        self._ids.put(keys.astype(np.int32), fields.id)
        self._put_states(keys, fields, now_s)
        self.categories.put_all(keys, fields.categories)
        self.tags.put_all(keys, fields.tags)
        self.title.put_all(keys, [title or None for title in fields.title])
        self._put_attributes(keys, fields.numbers, self.numbers, NumberColumn)  # type: ignore[arg-type]
        self._put_attributes(keys, fields.texts, self.texts, TextColumn)  # type: ignore[arg-type]
        self._log.note(keys.astype(np.int32))

    def _put_states(self, keys: NDArray[np.int64], fields: Any, now_s: float) -> None:
        expires = np.array([NEVER_S if e is None else e for e in fields.expire_s])
        deleted = np.array(fields.deleted, dtype=np.bool_)
        offered = np.array(fields.available, dtype=np.bool_) & ~deleted
        usable = offered & (expires > now_s)
        ending = (expires > now_s) & (expires < NEVER_S) & (expires != self._expires[keys])
        self._expiries.add(keys[ending].astype(np.int32), expires[ending])
        store(self._created, keys, fields.create_s)
        store(self._expires, keys, expires)
        store(self._flags, keys, deleted * DELETED + offered * OFFERED)
        store(self._usable, keys, usable)
        store(self._category_bits, keys, list(map(_bits, fields.categories)))
        if self._expiries_are_worn():
            self._expiries.start_over(self._expires[: self.size], self._expired_s)

    def _expiries_are_worn(self, share: float = 1.0) -> bool:
        """Whether most of the times can't hold any longer; told sooner with a smaller share."""
        return self._expiries.size > share * (self.size + limits.EXPIRED_COUNT_MAX)

    def _put_attributes(
        self,
        keys: NDArray[np.int64],
        values: Sequence[Mapping[str, Any]],
        columns: dict[str, Any],
        make: type[NumberColumn | TextColumn],
    ) -> None:
        for name in sorted(set().union(*values) - columns.keys()):
            if self._may_add(name):
                columns[name] = make()
                columns[name].reserve(len(self._flags))
                self.layout += 1
        for name, column in columns.items():
            column.put_all(keys, [each.get(name) for each in values])

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

    def reserve(self, size: int) -> None:
        """Makes room for keys below `size`, all at once: `work_ahead` does it in pieces, before that is needed."""
        if size > len(self._flags):
            for work in self._lengthen(room_for(size)):
                work()

    def work_ahead(self, rows: Sequence[ItemRow]) -> Iterator[Work]:
        """What takes long and would have to be done while rows (m,) are put, or soon: for another thread, one after the other.

        Each replaces arrays by equal ones that are longer, wider or packed; so requests may go on meanwhile, and may see some
        of them replaced and others not. Where that must be seen at once, it returns what is to be called between two requests.
        Nothing may be put until all is done. Nothing is due for a small catalogue.
        """
        if self.size < limits.CATALOG_STEPS_ITEM_COUNT:
            return
        spare, soon = self.size // limits.CATALOG_SPARE_PART, limits.CATALOG_AHEAD_COUNT
        size = max([self.size, *(row.key + 1 for row in rows)]) + spare // 2
        if size > len(self._flags):
            yield from self._lengthen(room_for(size + spare // 2))
        texts = [self.title, *self.texts.values()]
        tables = [self._ids, self.categories.words, self.tags.words, *(column.words for column in texts)]
        for table in tables:
            yield from table.work_ahead(soon)
        for column in texts:
            yield from column.work_ahead(soon)
        for lists in (self.categories, self.tags):
            yield from lists.work_ahead(soon)
        for name, numbers in self.numbers.items():
            yield from numbers.work_ahead([row.numbers.get(name) for row in rows])
        expiries = self._expiries
        if self._expiries_are_worn(0.9) or not (expiries.is_whole and expiries.has_room(soon)):
            # Those that came due since nobody has taken out yet.
            yield partial(
                expiries.started_over, self._expires[: self.size], self._expired_s, max(spare, soon)
            )

    def _lengthen(self, length: int) -> Iterator[Work]:
        for column in self._columns():
            yield partial(column.reserve, length)
        yield partial(self._ids.reserve, length)
        yield partial(self._lengthen_own, length)
        self._usable = lengthened(self._usable, length, 0)  # both here: a request may write them meanwhile
        self._flags = lengthened(
            self._flags, length, 0
        )  # last: its length says for how many keys all have room

    def _lengthen_own(self, length: int) -> None:
        self._created = lengthened(self._created, length, 0)
        self._expires = lengthened(self._expires, length, NEVER_S)
        self._category_bits = lengthened(self._category_bits, length, 0)

    def rest(self) -> None:
        """After many changes: gives the memory back that they went faster with."""
        for column in self._columns():
            if not isinstance(column, NumberColumn):
                column.words.rest()

    def _columns(self) -> list[NumberColumn | TextColumn | ListColumn]:
        return [*self.numbers.values(), *self.texts.values(), self.categories, self.tags, self.title]

    def adopt(self, other: Catalogue) -> None:
        """Becomes what `other` is, in one step; `other` must not be used any more."""
        revision, layout = max(self.revision, other.revision) + 1, self.layout + other.layout + 1
        self.__dict__.update(other.__dict__)
        self.layout = layout
        self._log.forget(revision)

    def parts(self) -> dict[str, State]:
        """Everything but what `of_parts` finds out anew: plain values, and arrays, by part."""
        own: dict[str, np.ndarray] = {"created": self._created, "expires": self._expires}
        own |= {"flags": self._flags, "category_bits": self._category_bits}
        return {
            "items": ({"size": self.size}, own),
            "ids": self._ids.state(),
            "title": self.title.state(),
            "categories": self.categories.state(),
            "tags": self.tags.state(),
            **{f"number:{name}": column.state() for name, column in self.numbers.items()},
            **{f"text:{name}": column.state() for name, column in self.texts.items()},
        }

    @classmethod
    def of_parts(cls, parts: Mapping[str, State], now_s: float) -> Catalogue:
        """The catalogue of `parts`; the arrays become its own. KeyError if one is missing."""
        catalogue = cls()
        params, arrays = parts["items"]
        catalogue.size = params["size"]
        catalogue._created, catalogue._expires = arrays["created"], arrays["expires"]
        catalogue._flags, catalogue._category_bits = arrays["flags"], arrays["category_bits"]
        catalogue._ids = TextTable.of_state(*parts["ids"])
        catalogue.title = TextColumn.of_state(*parts["title"])
        catalogue.categories = ListColumn.of_state(*parts["categories"])
        catalogue.tags = ListColumn.of_state(*parts["tags"])
        for name, state in parts.items():
            kind, _, attribute = name.partition(":")
            if kind == "number":
                catalogue.numbers[attribute] = NumberColumn.of_state(*state)
            elif kind == "text":
                catalogue.texts[attribute] = TextColumn.of_state(*state)
        catalogue._usable = np.zeros(len(catalogue._flags), dtype=np.bool_)
        catalogue._use(now_s)
        catalogue._log.forget(1)
        return catalogue

    def size_bytes(self) -> dict[str, int]:
        """The bytes of its arrays by part, room included."""
        sizes = {name: sum(a.nbytes for a in arrays.values()) for name, (_, arrays) in self.parts().items()}
        return {**sizes, "usable": self._usable.nbytes, "expiries": self._expiries.size_bytes}


def _bits(names: Iterable[str]) -> int:
    bits = 0
    for name in names:
        bits |= 1 << hash_bit(name)
    return bits


@lru_cache(maxsize=limits.CATEGORY_BITS_COUNT_MAX)
def hash_bit(name: str) -> int:
    """The bit of a category, 0..63: the same in every process, which Python's own hash is not."""
    value = 0
    for byte in name.encode():
        value = (value * 31 + byte) & 0xFFFFFFFF
    return (value ^ (value >> 16)) % CATEGORY_BITS
