"""What one filter leaves of the catalogue and of one model's rows; it catches up with the items that change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import FilterMode

from retrieval import Shown, ShownRows, Tuned, whole
from retrieval.shown import NO_ROWS, keeps_rows
from serving import limits
from serving.bitmaps import Bitmap, Unfilled
from serving.catalogue import Catalogue
from serving.eligible_kernels import change_keys, change_list, first_shown
from serving.filter_syntax import normal_form
from serving.kernels import hide_rows
from serving.model import LoadedModel
from serving.rooms import lengthened, room_for

Keys = NDArray[np.int32]
Marks = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Report = tuple[FilterMode.ValueType, int, float | None]

NO_KEYS: Keys = np.zeros(0, dtype=np.int32)
NOT_HIDDEN: Marks = np.zeros(0, dtype=np.uint8)


@dataclass
class Eligible:
    """What may be answered. It is kept, and brought up to date on the event loop's thread: it holds until the next await."""

    mask: Mask  # (size,) bool over keys
    hidden: Marks  # (n,) uint8, not 0 for rows of the model that may not be answered; empty: all may
    shown: Shown | None  # where to search for the rows that may be; None: as the model's plan says
    popular_keys: Keys  # (p,) int32 the most popular that may be answered, POPULAR_COUNT_MAX at most
    unmodelled_keys: Keys  # (u,) int32 eligible keys that the model does not know, newest first, UNMODELLED_COUNT_MAX at most
    count: int = 0  # items that may be answered
    mode: FilterMode.ValueType = FilterMode.FILTER_MODE_NONE
    estimated_recall: float | None = None  # of retrieval's best 100; None: not measured yet
    popular_rows: Keys | None = (
        None  # (p,) int32 of popular_keys in the model, -1 where it has none; None: there are more
    )

    @property
    def report(self) -> Report:
        """How the filter was applied, how many items may be answered, and the estimated recall, if there is one."""
        return self.mode, self.count, self.estimated_recall


@dataclass
class Listed:
    """The first passing keys of an order: rising values, equal ones by falling key."""

    keys: Keys  # (room,)
    values: NDArray[np.float64]  # (room,)
    size: int
    more: bool  # whether more pass than are listed
    count_max: int
    fixed: bool  # whether a key's value never changes

    @property
    def is_worn(self) -> bool:
        """Whether too few are left of many."""
        return self.more and self.size < limits.LIST_WORN_SHARE * self.count_max

    def change(self, keys: Keys, values: NDArray[np.float64], was: Mask, passes: Mask) -> None:
        """See change_list."""
        if not self.more and self.size + len(keys) > len(self.keys):
            room = min(self.count_max, room_for(self.size + len(keys)))
            self.keys, self.values = lengthened(self.keys, room, 0), lengthened(self.values, room, 0)
        self.size, self.more = change_list(
            keys, values, was, passes, self.keys, self.values, self.size, self.more, self.fixed
        )


@dataclass(frozen=True)
class View:
    """The catalogue's arrays of one moment, for another thread to derive from."""

    usable: Mask
    created_s: NDArray[np.float64]
    revision: int
    layout: int

    @classmethod
    def of(cls, catalogue: Catalogue) -> View:
        """As they are now."""
        return cls(catalogue.usable, catalogue.created_s, catalogue.revision, catalogue.layout)


@dataclass
class Kept:
    """One filter's Eligible, and what it takes to bring it up to date."""

    eligible: Eligible
    filter_text: str
    revision: int  # of the catalogue
    layout: int
    mask: Mask  # with room for more keys
    marks: Marks  # (n,) uint8, see eligible_kernels.py
    hidden_count: int
    rows: ShownRows | None  # the rows that pass, if they are few
    everything: Shown | None  # a scan of all codes; None: there are none
    tuned: Shown | None  # a plan of this filter's own, once it was measured
    popular: Listed
    unmodelled: Listed
    derived_count: int  # how many passed when it was derived
    measured_count: int = -1  # how many passed when recall was measured
    by_users: bool = False  # whether it was measured on users' vectors
    worn: bool = field(
        default=False
    )  # whether it should be derived anew: it is right, but not as fast as it could be

    @property
    def filtered(self) -> bool:
        """Whether there is a filter at all."""
        return bool(normal_form(self.filter_text))

    @property
    def size_bytes(self) -> int:
        lists = (self.popular, self.unmodelled)
        own = (
            self.mask.nbytes
            + self.marks.nbytes
            + sum(each.keys.nbytes + each.values.nbytes for each in lists)
        )
        return own + (self.rows.size_bytes if self.rows else 0)

    def catches_up(self, catalogue: Catalogue, bitmap: Bitmap, model: LoadedModel | None) -> bool:
        """Brings it up to date; False where it has to be derived anew. `bitmap` is the filter's, up to date."""
        keys = catalogue.changes_since(self.revision)
        if keys is None or self.layout != catalogue.layout:
            return False
        if catalogue.size > len(self.mask):
            self.mask = lengthened(self.mask, room_for(catalogue.size), 0)
        passes = bitmap.holds(keys) & catalogue.usable[keys]
        rows = model.rows_of(keys) if model else np.full(len(keys), -1, dtype=np.int32)
        was, gained = np.empty(len(keys), dtype=np.bool_), np.empty(len(keys), dtype=np.int32)
        more, more_rows, count = change_keys(keys, rows, passes, self.mask, self.marks, was, gained)
        self.eligible.count += more
        self.hidden_count -= more_rows
        if count and self.rows and not self.rows.add(gained[:count]):
            self.rows, self.worn = None, True
        unknown = np.where(rows < 0, -catalogue.created_s[keys], np.nan)
        self.unmodelled.change(keys, unknown, was, passes)
        if model is not None:
            self.popular.change(keys, _unpopularity(model, rows), was, passes)
        self.revision = catalogue.revision
        self.settle(catalogue.size, model)
        return True

    def settle(self, size: int, model: LoadedModel | None) -> None:
        """Makes `eligible` say what this knows; there are `size` keys."""
        found = self.eligible
        found.mask = self.mask[:size]
        found.hidden = self.marks if self.hidden_count else NOT_HIDDEN
        found.popular_keys = self.popular.keys[: self.popular.size]
        few = model is not None and self.filtered and not self.popular.more
        found.popular_rows = model.rows_of(found.popular_keys) if model and few else None
        found.unmodelled_keys = self.unmodelled.keys[: self.unmodelled.size]
        if self.rows and not self.rows.complete and self._differs(self.derived_count):
            self.worn = True  # other rows may be among those of largest norm
        if self._differs(self.measured_count):
            self.tuned, self.measured_count, found.estimated_recall = None, -1, None
        found.shown = self._shown(model)
        found.mode = self._mode()
        if found.mode == FilterMode.FILTER_MODE_EXACT:
            found.estimated_recall = 1.0
        self.worn = (
            self.worn or self.popular.is_worn or self.unmodelled.is_worn or self._could_keep_rows(model)
        )

    def first_shown(self, model: LoadedModel) -> Shown | None:
        """Where to search without a plan of the filter's own; not to be changed while another thread searches there."""
        return self._shown(model, tuned=False)

    def measured(self, found: Tuned, count: int, by_users: bool, size: int, model: LoadedModel) -> None:
        """Takes over what was measured while `count` items passed."""
        self.tuned = found.shown if found.shown is not None and found.shown.plan is not None else None
        self.measured_count, self.by_users, self.eligible.estimated_recall = count, by_users, found.recall
        self.settle(size, model)

    def take_over(self, before: Kept, model: LoadedModel | None) -> None:
        """What was measured of the same filter before it was derived anew."""
        self.measured_count, self.by_users, self.tuned = before.measured_count, before.by_users, before.tuned
        self.eligible.estimated_recall = before.eligible.estimated_recall
        self.settle(len(self.eligible.mask), model)
        self.worn = False

    def _differs(self, count: int) -> bool:
        return abs(self.eligible.count - count) > limits.FILTER_DRIFT_SHARE * count

    def _shown(self, model: LoadedModel | None, tuned: bool = True) -> Shown | None:
        if model is None or not self.hidden_count:
            return None
        if self.rows is not None and self.rows.complete:
            return self.rows.now()
        if self.tuned is not None and tuned:
            return self.tuned
        if not self.filtered and self.hidden_count < limits.HIDDEN_SHARE_MAX * len(self.marks):
            return None  # few are out of stock, whatever the user likes: the model's plan allows for them
        return self.rows.now() if self.rows is not None else self.everything

    def _mode(self) -> FilterMode.ValueType:
        shown = self.eligible.shown
        if not self.filtered:
            return FilterMode.FILTER_MODE_NONE
        if self.everything is None or (shown and not shown.plan and not shown.layout):
            return FilterMode.FILTER_MODE_EXACT
        scans = shown is not None and shown.complete and (not shown.plan or shown == self.everything)
        return FilterMode.FILTER_MODE_SCAN if scans else FilterMode.FILTER_MODE_WIDENED

    def _could_keep_rows(self, model: LoadedModel | None) -> bool:
        if model is None or (self.rows and self.rows.complete) or not self.hidden_count:
            return False
        shown_count = len(self.marks) - self.hidden_count
        return keeps_rows(shown_count + shown_count // 3, len(self.marks), self.everything is not None)


def _unpopularity(model: LoadedModel, rows: Keys) -> NDArray[np.float64]:
    """(m,) float64, less for more popular rows (m,) int32; NaN for -1."""
    popularity = model.arrays.popularity
    return np.where(rows < 0, np.nan, -popularity[np.maximum(rows, 0)].astype(np.float64))


def derive(
    source: Bitmap | Unfilled, view: View, model: LoadedModel | None, filter_text: str
) -> tuple[Bitmap, Kept]:
    """The bitmap, compiled if it was not, and what it leaves. O(items), on any thread: what changes meanwhile is caught up with."""
    bitmap = source if isinstance(source, Bitmap) else source.filled()
    mask = bitmap.mask() & view.usable
    unmodelled, marks, shown_count, rows = mask.copy(), NOT_HIDDEN.copy(), 0, None
    popular, everything = _listed(NO_KEYS, np.zeros(0), limits.POPULAR_COUNT_MAX, False, fixed=True), None
    if model is not None:
        plan = whole(model.retriever)
        everything = Shown(NO_ROWS, plan=plan) if plan else None
        marks = np.empty(model.arrays.item_count, dtype=np.uint8)
        shown_count = hide_rows(model.arrays.item_keys, mask, marks, unmodelled)
        if shown_count < len(marks):
            rows = model.retriever.shown_rows_of(marks, shown_count)
        popular = _popular(model, marks)
    new = _newest(np.flatnonzero(unmodelled), view.created_s)
    eligible = Eligible(mask, marks, None, NO_KEYS, NO_KEYS, int(np.count_nonzero(mask)))
    hidden_count = len(marks) - shown_count
    kept = Kept(
        eligible,
        filter_text,
        view.revision,
        view.layout,
        mask,
        marks,
        hidden_count,
        rows,
        everything,
        None,
        popular,
        new,
        eligible.count,
    )
    kept.settle(len(mask), model)
    kept.worn = False
    return bitmap, kept


def _popular(model: LoadedModel, marks: Marks) -> Listed:
    rows = np.empty(limits.POPULAR_COUNT_MAX, dtype=np.int32)
    size, more = first_shown(model.arrays.popularity_order, marks, rows)
    values, keys = _unpopularity(model, rows[:size]), model.arrays.item_keys[rows[:size]]
    order = np.lexsort((-keys, values))
    return _listed(keys[order], values[order], limits.POPULAR_COUNT_MAX, more, fixed=True)


def _newest(keys: NDArray[np.int64], created_s: NDArray[np.float64]) -> Listed:
    room = limits.UNMODELLED_COUNT_MAX
    more = len(keys) > room
    if more:  # without sorting them all, unless they are all equally old
        oldest_s = np.partition(created_s[keys], len(keys) - room)[len(keys) - room]
        keys = keys[created_s[keys] >= oldest_s]
    # Ties by key, the later upsert first: the order does not depend on how the database returned the rows.
    order = np.lexsort((-keys, -created_s[keys]))[:room]
    return _listed(keys[order].astype(np.int32), -created_s[keys[order]], room, more, fixed=False)


def _listed(keys: Keys, values: NDArray[np.float64], count_max: int, more: bool, fixed: bool) -> Listed:
    return Listed(keys, values, len(keys), more, count_max, fixed)
