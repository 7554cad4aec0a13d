"""What a filter leaves, kept for the searches that come with it: its rows, and their codes side by side.

Where one row in thirty passes, a scan of all codes pays for the other twenty-nine. The few that pass are copied once per
filter, and each search then scans nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval import kernels, limits
from retrieval.lanes import BLOCK_ROW_COUNT
from retrieval.layout import Layout

Int32 = NDArray[np.int32]
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """The rows that pass; written by none."""

    rows: Int32  # (s,) int32, ascending
    layout: Layout | None = None  # theirs alone, without cells; None: they are scanned in float32

    @property
    def size_bytes(self) -> int:
        kept = self.layout.to_arrays().values() if self.layout else ()
        return self.rows.nbytes + sum(array.nbytes for array in kept)


def shown_of(hidden: Mask, count: int, layout: Layout | None) -> Shown | None:
    """The `count` rows at which hidden (n,) uint8 is 0; None where they are too many to be kept. O(n)."""
    if count > limits.SHOWN_ROWS_MAX:
        return None
    exact = layout is None or count <= limits.SHOWN_EXACT_ROWS_MAX
    if not exact and count > limits.SHOWN_SHARE_MAX * len(hidden):
        return None
    rows = np.flatnonzero(hidden == 0).astype(np.int32)
    return Shown(rows) if exact or layout is None else Shown(rows, narrowed(layout, hidden, count))


def narrowed(layout: Layout, hidden: Mask, count: int) -> Layout:
    """The layout of the `count` rows that hidden leaves, all of them head, in the order in which they lie in `layout`."""
    block_count = -(-count // BLOCK_ROW_COUNT)
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
