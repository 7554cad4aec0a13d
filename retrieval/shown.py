"""What a filter leaves, kept for the searches that come with it: its rows, and their codes side by side; or how to look for them.

Where one row in thirty passes, a scan of all codes pays for the other twenty-nine. The few that pass are copied once per
filter, and each search then scans nothing else. Where many pass, those of largest norm are: with norms as iALS leaves them,
the best for anyone are among them. Else all codes are scanned, or fewer by a plan of the filter's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval import kernels, limits
from retrieval.lanes import BLOCK_ROW_COUNT, GROUP_DIMENSION_COUNT
from retrieval.layout import Layout
from retrieval.plan import Plan

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Mask = NDArray[np.uint8]

NO_ROWS: Int32 = np.zeros(0, dtype=np.int32)
NO_LAST = 2**31 - 1  # above every row


@dataclass(frozen=True)
class Vectors:
    """A model's rows, by falling norm."""

    factors: Float32  # (n, d)
    norms: Float32  # (n,)


@dataclass(frozen=True)
class Shown:
    """Where to search: in these rows, or by this plan. What is hidden is left out either way."""

    rows: Int32  # (s,) int32
    layout: Layout | None = (
        None  # theirs alone, without cells, by falling norm; None: they are scanned in float32
    )
    plan: Plan | None = (
        None  # all rows' codes are searched by it, as wide as it says, whatever share is hidden
    )
    complete: bool = True  # whether the rows are all that pass, or only those of largest norm

    @property
    def size_bytes(self) -> int:
        kept = self.layout.to_arrays().values() if self.layout else ()
        return self.rows.nbytes + sum(array.nbytes for array in kept)


class ShownRows:
    """A Shown of rows that takes more rows in, as long as there is room for them: in front, where no bound leaves them out."""

    def __init__(self, rows: Int32, room: int, model: Vectors, coded: bool, complete: bool) -> None:
        self._model, self._complete = model, complete
        self._last = int(rows[-1]) if len(rows) and not complete else NO_LAST
        room = -(-room // BLOCK_ROW_COUNT) * BLOCK_ROW_COUNT
        self._first = room  # the place of the first row
        self._rows = np.full(-(-(room + len(rows)) // BLOCK_ROW_COUNT) * BLOCK_ROW_COUNT, -1, dtype=np.int32)
        self._end = room + len(rows)
        self._layout = _empty(self._rows, model.factors.shape[1]) if coded else None
        if self._layout is not None:
            self._put(rows, room, 1)
            starts = rows[::BLOCK_ROW_COUNT]
            self._layout.norms[room // BLOCK_ROW_COUNT :] = model.norms[starts]
        else:
            self._rows[room : self._end] = rows

    @property
    def complete(self) -> bool:
        """Whether these are all the rows that pass."""
        return self._complete

    @property
    def size_bytes(self) -> int:
        return Shown(self._rows, self._layout).size_bytes

    def now(self) -> Shown:
        """The rows so far."""
        rows, own = self._rows[self._first : self._end], self._layout
        if own is None:
            return Shown(rows, complete=self._complete)
        block = self._first // BLOCK_ROW_COUNT
        lanes = block * BLOCK_ROW_COUNT
        part = replace(
            own,
            codes=own.codes[block:],
            scales=own.scales[lanes:],
            unit_scales=own.unit_scales[lanes:],
            rows=own.rows[lanes:],
            norms=own.norms[block:],
            starts=np.array([own.block_count - block], dtype=np.int32),
        )
        return Shown(rows, part, complete=self._complete)

    def add(self, rows: Int32) -> bool:
        """Takes rows (m,) in that are not there yet; False, and nothing is changed, where there is no room for them."""
        rows = rows[rows < self._last]  # of small norms, as all those that are left out
        if len(rows) > self._first:
            return False
        if self._layout is not None:
            self._put(rows, self._first - 1, -1)
        else:
            self._rows[self._first - len(rows) : self._first] = rows
        self._first -= len(rows)
        return True

    def _put(self, rows: Int32, place: int, step: int) -> None:
        own = self._layout
        assert own is not None
        kernels.put_lanes(
            self._model.factors, self._model.norms, rows, place, step, own.codes.reshape(-1), own.scales, own.unit_scales,
            own.rows, own.codes.shape[1],
        )  # fmt: skip


def shown_rows_of(hidden: Mask, count: int, model: Vectors, coded: bool) -> ShownRows | None:
    """The `count` rows at which hidden (n,) uint8 is 0, by falling norm; of too many the first, if the rest are much shorter.

    None where neither will do. O(n).
    """
    if keeps_rows(count, len(hidden), coded):
        exact = not coded or count <= limits.SHOWN_EXACT_ROWS_MAX
        rows = np.flatnonzero(hidden == 0).astype(np.int32)
        room = count // limits.SHOWN_ROOM_PART + limits.SHOWN_ROOM_MIN
        return ShownRows(rows, room, model, not exact, complete=True)
    rows = np.flatnonzero(hidden == 0)[: limits.SHOWN_HEAD_ROWS].astype(np.int32)
    first, last = rows[min(len(rows), limits.COUNT) - 1], rows[-1]
    if not coded or model.norms[last] > limits.SHOWN_HEAD_NORM_MAX * model.norms[first]:
        return None
    return ShownRows(rows, limits.SHOWN_HEAD_ROOM, model, coded=True, complete=False)


def _empty(rows: Int32, factor_count: int) -> Layout:
    width = -(-factor_count // GROUP_DIMENSION_COUNT) * GROUP_DIMENSION_COUNT * BLOCK_ROW_COUNT
    blocks, none = len(rows) // BLOCK_ROW_COUNT, np.zeros(0, dtype=np.float32)
    return Layout(
        np.zeros((blocks, width), dtype=np.uint8),
        np.zeros(len(rows), dtype=np.float32),
        np.zeros(len(rows), dtype=np.float32),
        rows,
        np.full(blocks, np.inf, dtype=np.float32),
        np.array([blocks], dtype=np.int32),
        np.zeros((0, width), dtype=np.uint8),
        none,
        NO_ROWS,
        none,
    )


def keeps_rows(count: int, row_count: int, coded: bool) -> bool:
    """Whether `count` passing rows of `row_count` are few enough to be kept by themselves."""
    if count > limits.SHOWN_ROWS_MAX:
        return False
    return not coded or count <= max(limits.SHOWN_EXACT_ROWS_MAX, limits.SHOWN_SHARE_MAX * row_count)
