"""The events that training sees: plain arrays in the order of time, whatever they were read from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vectorizer.content import WordLists

Int32 = NDArray[np.int32]

TIME_S_MAX = 2**32 - 1  # a ring's time is a uint32
YEAR_MAX = 10_000
CATEGORY_COUNT_MAX = 64  # bits of a model's category mask; the most frequent ones are kept


class DatasetError(ValueError):
    """The data set cannot be trained on: the message says what is wrong with it and what to do."""


@dataclass(frozen=True)
class Items:
    """What is known of the n items apart from their events; rows are positions in `keys`."""

    keys: Int32  # (n,) int32 stable item keys, ascending
    categories: NDArray[np.uint64]  # (n,) uint64, one bit a category
    released: NDArray[np.float32]  # (n,) float32 years, 0 where unknown
    ids: tuple[str, ...] = ()  # the caller's ids, empty where only keys are known
    given_words: WordLists | None = None  # of their categories and tags; None: nothing is known of them

    @property
    def words(self) -> WordLists:
        """The words of all items."""
        return self.given_words or WordLists.of([()] * len(self.keys))

    @classmethod
    def bare(cls, keys: Int32, ids: tuple[str, ...] = ()) -> Items:
        """Items of which nothing but the key is known."""
        n = len(keys)
        return cls(keys, np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.float32), ids)


@dataclass(frozen=True)
class Dataset:
    """N events in the order of time (ties in the order of arrival) over n items and some users."""

    users: Int32  # (N,) int32, 0..user_count - 1
    rows: Int32  # (N,) int32, item rows of `items`
    codes: NDArray[np.uint8]  # (N,) uint8 signal codes
    times: NDArray[np.uint32]  # (N,) uint32 unix seconds, ascending
    user_count: int
    items: Items

    def __len__(self) -> int:
        return len(self.users)

    def take(self, where: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Dataset:
        """The chosen events with the same users and items."""
        return replace(
            self,
            users=self.users[where],
            rows=self.rows[where],
            codes=self.codes[where],
            times=self.times[where],
        )

    def compact(self) -> Dataset:
        """The same events without the users and items that have none: nothing of what is left out can be told."""
        _, users = np.unique(self.users, return_inverse=True)
        kept, rows = np.unique(self.rows, return_inverse=True)
        items = Items(self.items.keys[kept], self.items.categories[kept], self.items.released[kept])
        if self.items.ids:
            items = replace(items, ids=tuple(self.items.ids[i] for i in kept))
        if self.items.given_words:
            items = replace(items, given_words=self.items.given_words.take(kept.astype(np.int64)))
        return replace(
            self,
            users=users.astype(np.int32),
            rows=rows.astype(np.int32),
            user_count=int(users.max(initial=-1)) + 1,
            items=items,
        )

    def by_user(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) positions sorted by user, each user's in the order of time, and (user_count + 1,) their offsets."""
        order = np.argsort(self.users, kind="stable")
        counts = np.bincount(self.users, minlength=self.user_count)
        return order, np.concatenate([[0], np.cumsum(counts)])


def build(
    users: NDArray[np.int32],
    rows: NDArray[np.int32],
    codes: NDArray[np.uint8],
    times: NDArray[np.int64],
    user_count: int,
    items: Items,
) -> Dataset:
    """A data set of unordered events: sorted by time, ties stay in their order. DatasetError if there are none."""
    if not len(users):
        raise DatasetError("there are no events to train on: load some (see `reco load --help`)")
    order = np.argsort(times, kind="stable")
    clipped = np.clip(times[order], 0, TIME_S_MAX).astype(np.uint32)
    return Dataset(
        users[order].astype(np.int32),
        rows[order].astype(np.int32),
        codes[order].astype(np.uint8),
        clipped,
        user_count,
        items,
    )


def category_masks(categories: Sequence[Sequence[str]]) -> NDArray[np.uint64]:
    """(n,) uint64 masks of each item's categories: the CATEGORY_COUNT_MAX most frequent, ties by name."""
    counts: dict[str, int] = {}
    for names in categories:
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    kept = sorted(counts, key=lambda name: (-counts[name], name))[:CATEGORY_COUNT_MAX]
    bits = {name: 1 << i for i, name in enumerate(kept)}
    masks = [sum({bits[name] for name in names if name in bits}) for names in categories]
    return np.array(masks, dtype=np.uint64)


def year_of(value: object) -> float:
    """A release in years; 0, which is unknown, for what is no year: an endless one would spoil every mean that it is in."""
    try:
        year = float(str(value))
    except ValueError:
        return 0.0
    return year if math.isfinite(year) and 0 < year < YEAR_MAX else 0.0
