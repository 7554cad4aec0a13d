"""Which items may be answered: available, not expired, passing the filter; and, by request, not blocked."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving import limits
from serving.catalogue import Catalogue
from serving.filter_syntax import parse
from serving.filters import evaluate
from serving.kernels import mark_keys
from serving.model import LoadedModel

Keys = NDArray[np.int32]


@dataclass(frozen=True)
class Eligible:
    """What a filter, a model and a state of the catalogue leave."""

    mask: NDArray[np.bool_]  # (size,) bool over keys
    hidden_rows: NDArray[np.int32]  # (h,) int32 rows of the model that may not be answered
    unmodelled_keys: Keys  # (u,) int32 eligible keys that the model does not know, newest first

    @property
    def size_bytes(self) -> int:
        return self.mask.nbytes + self.hidden_rows.nbytes + self.unmodelled_keys.nbytes


class EligibilityCache:
    """Keeps what was derived for the filters of late, within ELIGIBLE_BYTES_MAX."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._kept: OrderedDict[tuple[str, str], Eligible] = OrderedDict()
        self._bytes = 0
        self._revision = -1

    def of(self, model: LoadedModel | None, filter_text: str) -> Eligible:
        """What may be answered; CallerError FILTER_INVALID if the filter can't be read."""
        if self._revision != self._catalogue.revision:
            self._kept.clear()
            self._bytes, self._revision = 0, self._catalogue.revision
        node = parse(filter_text)
        name = (model.version if model else "", str(node) if node else "")
        found = self._kept.get(name)
        if found is None:
            found = derive(self._catalogue, model, evaluate(node, self._catalogue))
            self._keep(name, found)
        self._kept.move_to_end(name)
        return found

    def _keep(self, name: tuple[str, str], found: Eligible) -> None:
        self._kept[name] = found
        self._bytes += found.size_bytes
        while self._bytes > limits.ELIGIBLE_BYTES_MAX and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.size_bytes


def derive(catalogue: Catalogue, model: LoadedModel | None, passing: NDArray[np.bool_]) -> Eligible:
    """Joins a filter's keys with what is usable and with what the model knows. O(items)."""
    mask = passing & catalogue.usable
    unmodelled = mask.copy()
    hidden = np.zeros(0, dtype=np.int32)
    if model is not None:
        keys = model.arrays.item_keys
        known = keys < len(mask)
        unmodelled[keys[known]] = False
        shown = np.zeros(len(keys), dtype=np.bool_)
        shown[known] = mask[keys[known]]
        hidden = np.flatnonzero(~shown).astype(np.int32)
    return Eligible(mask, hidden, _newest_first(np.flatnonzero(unmodelled), catalogue))


def _newest_first(keys: NDArray[np.int64], catalogue: Catalogue) -> Keys:
    # Ties by key, the later upsert first: the order does not depend on how the database returned the rows.
    order = np.lexsort((-keys, -catalogue.created_s[keys]))
    return keys[order].astype(np.int32)


class BlockedKeys:
    """Marks over keys, (size,) uint8, that hold one request's seen, excluded, shown and context items."""

    def __init__(self) -> None:
        self.marks: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)

    def block(self, keys: Keys, size: int) -> None:
        """Blocks the keys; undo it with `release` before the next request."""
        if size > len(self.marks):
            self.marks = np.zeros(2 * size, dtype=np.uint8)
        mark_keys(keys, np.uint8(1), self.marks)

    def release(self, keys: Keys) -> None:
        """Undoes `block` of the same keys."""
        mark_keys(keys, np.uint8(0), self.marks)
