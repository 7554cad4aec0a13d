"""Items that the model does not know yet, with vectors of their own: expected from their words until they have learnt.

A table a model, for the event loop's thread alone. It follows the catalogue's changes in slices between requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving import limits
from serving.catalogue import Catalogue
from serving.model import LoadedModel
from serving.rooms import lengthened, room_for
from vectorizer.content import hashes_of

Keys = NDArray[np.int32]
Float32 = NDArray[np.float32]
NO_KEYS: Keys = np.zeros(0, dtype=np.int32)
NO_PRODUCTS: Float32 = np.zeros(0, dtype=np.float32)


class LiveTable:
    """Keys and vectors of at most LIVE_ITEMS_MAX items, for one model. When it is full, the oldest key gives way."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.size = 0
        self._keys = NO_KEYS
        self._factors = np.zeros((0, model.arrays.factor_count), dtype=np.float32)
        self._place_of: dict[int, int] = {}
        self._expected: dict[int, Float32] = {}  # of those that have learnt: what they began with

    @property
    def keys(self) -> Keys:
        """(size,) int32, in no order."""
        return self._keys[: self.size]

    def vector_of(self, key: int) -> Float32 | None:
        """(d,) float32, a copy; None if the key is not here."""
        place = self._place_of.get(key)
        return None if place is None else self._factors[place].copy()

    def expected_of(self, key: int) -> Float32 | None:
        """(d,) float32, what its words say of a key, whatever it has learnt; None if it is not here."""
        return self._expected.get(key, self.vector_of(key))

    def learn(self, key: int, vector: Float32) -> None:
        """Gives a key that is here still what it has learnt."""
        expected = self.expected_of(key)
        if expected is not None:
            self._factors[self._place_of[key]] = vector
            self._expected[key] = expected

    def put(self, key: int, vector: Float32) -> None:
        """Puts a key, or what its words say now. What it has learnt stays until it learns again."""
        if key in self._expected:
            self._expected[key] = vector
            return
        place = self._place_of.get(key)
        if place is None:
            if self.size == limits.LIVE_ITEMS_MAX:
                oldest = int(self.keys.min())
                if key < oldest:
                    return
                self.drop(oldest)
            place = self._make_room()
            self._place_of[key] = place
            self._keys[place] = key
            self.size += 1
        self._factors[place] = vector

    def drop(self, key: int) -> None:
        """Takes a key out; the last one takes its place."""
        place = self._place_of.pop(key, None)
        if place is None:
            return
        self._expected.pop(key, None)
        self.size -= 1
        if place < self.size:
            last = int(self._keys[self.size])
            self._keys[place], self._factors[place] = last, self._factors[self.size]
            self._place_of[last] = place

    def nearest(self, vector: Float32, count: int, mask: NDArray[np.bool_]) -> Keys:
        """At most `count` keys of the largest positive inner products with vector (d,), best first, of those in mask (size,) bool."""
        if not self.size:
            return NO_KEYS
        products = self._factors[: self.size] @ vector
        keys = self.keys
        products[~mask[keys]] = 0  # its keys are all below the catalogue's size
        kept = np.flatnonzero(products > 0)
        if len(kept) > count:
            kept = kept[np.argpartition(-products[kept], count - 1)[:count]]
        return keys[kept[np.lexsort((-keys[kept], -products[kept]))]]

    def products_of(self, keys: Keys, vector: Float32) -> Float32:
        """(m,) float32 inner products of keys (m,) with vector (d,), NaN for those that are not here."""
        places = [self._place_of.get(key, -1) for key in keys.tolist()]
        at = np.array(places, dtype=np.int64)
        found = np.full(len(keys), np.nan, dtype=np.float32)
        known = at >= 0
        found[known] = self._factors[at[known]] @ vector
        return found

    def _make_room(self) -> int:
        if self.size == len(self._keys):
            # At most 2 MB are copied: no table beside it is needed to stay within a request's time.
            length = min(room_for(self.size), limits.LIVE_ITEMS_MAX)
            self._keys = lengthened(self._keys, length, 0)
            factors = np.zeros((length, self._factors.shape[1]), dtype=np.float32)
            factors[: self.size] = self._factors[: self.size]
            self._factors = factors
        return self.size


class LiveItems:
    """The tables of the model that answers and of the one that comes next. Call `follow` every LIVE_PERIOD_S."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._tables: dict[str, LiveTable] = {}
        self._revision = -1  # of the catalogue, that the tables are as new as
        self._turn = asyncio.Lock()

    def of(self, model: LoadedModel | None) -> LiveTable | None:
        """The model's table; None where it has no content vectors, or none was prepared."""
        return self._tables.get(model.version) if model else None

    async def prepare(self, model: LoadedModel) -> None:
        """Makes the table of a model that comes next."""
        if model.content is None:
            return
        async with self._turn:
            table = self._tables[model.version] = LiveTable(model)
            revision = self._catalogue.revision
            await self._put_all(table)
            if self._revision < 0:
                self._revision = revision

    def forget_model(self, model: LoadedModel) -> None:
        """Lets go of the table of a model that answers no more."""
        self._tables.pop(model.version, None)

    async def follow(self) -> None:
        """Takes over what has changed in the catalogue since."""
        revision = self._catalogue.revision
        if not self._tables or revision == self._revision:
            return
        async with self._turn:
            keys = self._catalogue.changes_since(self._revision)
            self._revision = revision
            for table in list(self._tables.values()):
                if keys is None:
                    await self._put_all(table)
                else:
                    await self._put(table, keys)

    async def _put_all(self, table: LiveTable) -> None:
        for key in table.keys.tolist():
            if not self._is_live(table, key):
                table.drop(key)
        usable = np.flatnonzero(self._catalogue.usable).astype(np.int32)
        unknown = usable[table.model.rows_of(usable) < 0]
        await self._put(table, unknown[-limits.LIVE_ITEMS_MAX :])

    async def _put(self, table: LiveTable, keys: Keys) -> None:
        for start in range(0, len(keys), limits.LIVE_SLICE_COUNT):
            self._put_slice(table, keys[start : start + limits.LIVE_SLICE_COUNT].tolist())
            await asyncio.sleep(0)

    def _put_slice(self, table: LiveTable, keys: Sequence[int]) -> None:
        content, catalogue = table.model.content, self._catalogue
        assert content is not None, "a table is made of a model with content alone"
        for key in keys:
            if self._is_live(table, key):
                hashes = hashes_of(catalogue.categories.values(key), catalogue.tags.values(key))
                table.put(key, content.vector_of(hashes))
            else:
                table.drop(key)

    def _is_live(self, table: LiveTable, key: int) -> bool:
        rows = table.model.row_by_key
        return bool(self._catalogue.usable[key]) and not (key < len(rows) and rows[key] >= 0)
