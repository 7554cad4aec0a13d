"""Which items may be answered: available, not expired, passing the filter; and, by request, not blocked."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval import Shown
from serving import limits
from serving.catalogue import Catalogue
from serving.filter_syntax import parse
from serving.filters import evaluate
from serving.kernels import hide_rows
from serving.model import LoadedModel
from vectorizer.key_set import KeySet

Keys = NDArray[np.int32]
NO_KEYS: Keys = np.zeros(0, dtype=np.int32)
NOT_HIDDEN: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True)
class Eligible:
    """What a filter, a model and a state of the catalogue leave. Kept for many requests, written by none."""

    mask: NDArray[np.bool_]  # (size,) bool over keys
    hidden: NDArray[np.uint8]  # (n,) uint8, 1 for rows of the model that may not be answered; empty: all may
    shown: Shown | None  # the rows that may be, to search in, where they are few enough
    popular_keys: Keys  # (p,) int32 the most popular that may be answered, POPULAR_COUNT_MAX at most
    unmodelled_keys: Keys  # (u,) int32 eligible keys that the model does not know, newest first

    @property
    def size_bytes(self) -> int:
        shown = 0 if self.shown is None else self.shown.size_bytes
        kept = (self.mask, self.hidden, self.popular_keys, self.unmodelled_keys)
        return shown + sum(array.nbytes for array in kept)


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
    hidden, shown, popular = NOT_HIDDEN, None, NO_KEYS
    if model is not None:
        marks = np.empty(model.arrays.item_count, dtype=np.uint8)
        shown_count = hide_rows(model.arrays.item_keys, mask, marks, unmodelled)
        if shown_count < len(marks):
            hidden = marks
            shown = model.retriever.shown_of(marks, shown_count)
        popular = _popular_keys(model, hidden)
    return Eligible(mask, hidden, shown, popular, _newest_first(np.flatnonzero(unmodelled), catalogue))


def _popular_keys(model: LoadedModel, hidden: NDArray[np.uint8]) -> Keys:
    order = model.arrays.popularity_order
    if len(hidden):
        order = order[hidden[order] == 0]
    return model.arrays.item_keys[order[: limits.POPULAR_COUNT_MAX]]


def _newest_first(keys: NDArray[np.int64], catalogue: Catalogue) -> Keys:
    # Ties by key, the later upsert first: the order does not depend on how the database returned the rows.
    order = np.lexsort((-keys, -catalogue.created_s[keys]))
    return keys[order].astype(np.int32)


class BlockedKeys:
    """One request's seen, excluded, shown and context items, as a hash table for the kernels."""

    def __init__(self) -> None:
        self._set = KeySet()
        self.table = self._set.of(NO_KEYS)

    def block(self, keys: Keys) -> None:
        """Blocks the keys, and those alone."""
        assert len(keys) <= limits.BLOCKED_COUNT_MAX, "more than the contract lets a request name"
        self.table = self._set.of(keys)
