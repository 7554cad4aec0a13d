"""What a filter leaves, kept for the searches that come with it: its rows, and their codes side by side; or how to look for them.

Where one row in thirty passes, a scan of all codes pays for the other twenty-nine. The few that pass are copied once per
filter, and each search then scans nothing else. Where many pass, all codes are scanned, or fewer by a plan of the filter's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval import kernels, limits
from retrieval.lanes import BLOCK_ROW_COUNT
from retrieval.layout import Layout
from retrieval.plan import Plan

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Mask = NDArray[np.uint8]

NO_ROWS: Int32 = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class Shown:
    """Where to search: in these rows, or by this plan. What is hidden is left out either way."""

    rows: Int32  # (s,) int32
    layout: Layout | None = None  # theirs alone, without cells; None: they are scanned in float32
    plan: Plan | None = (
        None  # all rows' codes are searched by it, as wide as it says, whatever share is hidden
    )

    @property
    def size_bytes(self) -> int:
        kept = self.layout.to_arrays().values() if self.layout else ()
        return self.rows.nbytes + sum(array.nbytes for array in kept)


class ShownRows:
    """A Shown of rows that takes more rows in, as long as there is room for them."""

    def __init__(self, rows: Int32, size: int, layout: Layout | None) -> None:
        self._rows, self._size, self._layout = rows, size, layout

    @property
    def size_bytes(self) -> int:
        return Shown(self._rows, self._layout).size_bytes

    def now(self) -> Shown:
        """The rows so far."""
        rows = self._rows[: self._size]
        if self._layout is None:
            return Shown(rows)
        blocks = -(-self._size // BLOCK_ROW_COUNT)
        lanes = blocks * BLOCK_ROW_COUNT
        own = self._layout
        part = replace(
            own,
            codes=own.codes[:blocks],
            scales=own.scales[:lanes],
            unit_scales=own.unit_scales[:lanes],
            rows=own.rows[:lanes],
            norms=own.norms[:blocks],
            starts=np.array([blocks], dtype=np.int32),
        )
        return Shown(rows, part)

    def add(self, rows: Int32, factors: Float32, norms: Float32) -> bool:
        """Takes rows (m,) in that are not there yet; False, and nothing is changed, where there is no room for them.

        factors (n, d) and norms (n,) float32 are the model's.
        """
        size = self._size + len(rows)
        if size > len(self._rows):
            return False
        self._rows[self._size : size] = rows
        own = self._layout
        if own is not None:
            codes = own.codes.reshape(-1)
            kernels.put_lanes(
                factors,
                norms,
                rows,
                self._size,
                codes,
                own.scales,
                own.unit_scales,
                own.rows,
                own.codes.shape[1],
            )
        self._size = size
        return True


def shown_rows_of(hidden: Mask, count: int, layout: Layout | None) -> ShownRows | None:
    """The `count` rows at which hidden (n,) uint8 is 0; None where they are too many to be kept. O(n)."""
    if not keeps_rows(count, len(hidden), layout is not None):
        return None
    exact = layout is None or count <= limits.SHOWN_EXACT_ROWS_MAX
    most = limits.SHOWN_EXACT_ROWS_MAX if exact and layout is not None else limits.SHOWN_ROWS_MAX
    room = max(count, min(most, count + count // limits.SHOWN_ROOM_PART + limits.SHOWN_ROOM_MIN))
    rows = np.full(room, -1, dtype=np.int32)
    rows[:count] = np.flatnonzero(hidden == 0)
    return ShownRows(rows, count, None if exact or layout is None else narrowed(layout, hidden, room))


def keeps_rows(count: int, row_count: int, coded: bool) -> bool:
    """Whether `count` passing rows of `row_count` are few enough to be kept by themselves."""
    if count > limits.SHOWN_ROWS_MAX:
        return False
    return not coded or count <= max(limits.SHOWN_EXACT_ROWS_MAX, limits.SHOWN_SHARE_MAX * row_count)


def shown_of(hidden: Mask, count: int, layout: Layout | None) -> Shown | None:
    """As `shown_rows_of`, for who adds none."""
    found = shown_rows_of(hidden, count, layout)
    return found.now() if found else None


def narrowed(layout: Layout, hidden: Mask, room: int) -> Layout:
    """The layout of the rows that hidden leaves, all of them head, in the order in which they lie in `layout`; room for `room`."""
    block_count = -(-room // BLOCK_ROW_COUNT)
    codes = np.zeros((block_count, layout.codes.shape[1]), dtype=np.uint8)
    scales = np.zeros(block_count * BLOCK_ROW_COUNT, dtype=np.float32)
    units, rows = scales.copy(), np.full(len(scales), -1, dtype=np.int32)
    kernels.copy_lanes(
        layout.codes.reshape(-1).view(np.int32), layout.scales, layout.unit_scales, layout.rows, hidden,
        codes.reshape(-1).view(np.int32), scales, units, rows,
    )  # fmt: skip
    norms = np.ones(block_count, dtype=np.float32)  # in no order: a scan of them does not stop early
    starts = np.array([block_count], dtype=np.int32)
    none = slice(0, 0)
    return Layout(
        codes, scales, units, rows, norms, starts,
        layout.cell_codes[none], layout.cell_scales[none], layout.cell_rows[none], layout.cell_norms[none],
    )  # fmt: skip
