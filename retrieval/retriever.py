"""Searches one bundle by its plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval import kernels, limits
from retrieval.lanes import BLOCK_ROW_COUNT, GROUP_DIMENSION_COUNT
from retrieval.layout import Layout
from retrieval.plan import EXACT, HEAD, HEAD_CELLS, Plan, plan_of
from retrieval.shown import Shown, ShownRows, Vectors, keeps_rows, shown_rows_of
from vectorizer import ModelArrays
from vectorizer.key_set import KeySet

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Mask = NDArray[np.uint8]

NO_MASK: Mask = np.zeros(0, dtype=np.uint8)  # nothing is hidden
NO_ROWS: Int32 = np.zeros(0, dtype=np.int32)
_NO_FLOATS: Float32 = np.zeros(0, dtype=np.float32)
_PAGE_BYTES = 4_096  # of the memory that files are mapped in
_ALL = Plan(HEAD, survivors=limits.WHOLE_SURVIVOR_COUNT)  # what a bound by norm leaves of it
_WIDER = 4  # how much wider a search that found too few tries again


class Retriever:
    """The rows nearest to a vector, by inner product or by cosine. Its scratch memory is for one thread at a time.

    The model's rows lie by falling norm. The arrays are only read: several Retrievers share them, and processes do.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], params: Mapping[str, Any], model_arrays: ModelArrays
    ) -> None:
        plan = plan_of(params)
        layout = None if plan.kind == EXACT else Layout.from_arrays(arrays)
        self._open(plan, layout, model_arrays.factors, model_arrays.factor_norms)

    @classmethod
    def of(cls, plan: Plan, layout: Layout | None, factors: Float32, norms: Float32) -> Retriever:
        """Of parts that are in memory; ValueError where they do not fit."""
        self = cls.__new__(cls)
        self._open(plan, layout, factors, norms)
        return self

    def _open(self, plan: Plan, layout: Layout | None, factors: Float32, norms: Float32) -> None:
        _check(layout, len(factors), factors.shape[1])
        self.plan = plan
        self.layout = layout
        self.row_count = 0  # rows that the last search has scanned
        self._factors, self._norms = factors, norms
        self._model = Vectors(factors, norms)
        self._falling = norms if np.all(np.diff(norms) <= 0) else _NO_FLOATS
        if layout is not None and len(self._falling) != len(norms):
            raise ValueError("its rows do not lie by falling norm")
        groups = -(-factors.shape[1] // GROUP_DIMENSION_COUNT)
        self._query = np.zeros(groups, dtype=np.int32)
        self._scores = np.zeros(BLOCK_ROW_COUNT, dtype=np.float32)
        cell_count = layout.cell_count if layout else 0
        self._cell_keys = np.zeros(2 * cell_count + BLOCK_ROW_COUNT, dtype=np.uint64)
        self._blocked = KeySet()
        self._share_of: Mask = NO_MASK
        self._share, self._share_left = 1.0, 0
        self._keys = np.zeros(0, dtype=np.uint64)
        self._reserve(max(limits.SURVIVOR_COUNTS))

    def clone(self) -> Retriever:
        """Another one over the same arrays, with scratch memory of its own: for another thread."""
        return Retriever.of(self.plan, self.layout, self._factors, self._norms)

    def use(self, plan: Plan) -> None:
        """Searches by another plan from now on, over the same arrays."""
        if plan.kind != EXACT and self.layout is None:
            raise ValueError("these arrays allow an exact search only")
        self.plan = plan

    def warm(self) -> None:
        """Touches every page and runs every kernel, so that no request waits for a disk or a compiler."""
        for array in self.layout.to_arrays().values() if self.layout else ():
            array.reshape(-1).view(np.uint8)[::_PAGE_BYTES].sum()
        if not len(self._factors):
            return
        blocked, hidden = np.zeros(1, dtype=np.int32), np.zeros(len(self._factors), dtype=np.uint8)
        shown_rows = ShownRows(blocked, 1, self._model, self.layout is not None, complete=True)
        shown_rows.add(blocked)
        wide = Shown(blocked, plan=self.plan)
        for shown in (None, Shown(blocked), shown_rows.now(), wide):
            self.search(self._factors[0], limits.COUNT, hidden, blocked, shown)
            self.nearest(0, limits.COUNT, hidden, NO_ROWS, shown)

    def shown_of(self, hidden: Mask, count: int) -> Shown | None:
        """What to search in while hidden (n,) uint8 leaves `count` rows; None where these are too many. O(n): to be kept."""
        found = self.shown_rows_of(hidden, count) if keeps_rows(count, len(hidden), self._is_coded) else None
        return found.now() if found else None

    def shown_rows_of(self, hidden: Mask, count: int) -> ShownRows | None:
        """The same, or the ones of largest norm where they are too many; with room for rows that pass later."""
        return shown_rows_of(hidden, count, self._model, self._is_coded)

    @property
    def _is_coded(self) -> bool:
        return self.plan.kind != EXACT and self.layout is not None

    def exact(self, vector: Float32, count: int, hidden: Mask = NO_MASK) -> Int32:
        """What `search` would find if it looked at every row in float32."""
        count = min(count, len(self._factors))
        if count <= 0:
            return NO_ROWS
        size = self._exactly(vector, count, hidden, NO_ROWS, None, _NO_FLOATS)
        return self._rescored(vector, count, size, _NO_FLOATS)

    def scores(self, vector: Float32, rows: Int32) -> Float32:
        """(m,) float32 inner products of vector (d,) with rows (m,)."""
        return np.asarray(self._factors[rows] @ vector)

    def search(
        self,
        vector: Float32,
        count: int,
        hidden: Mask = NO_MASK,
        blocked_rows: Int32 = NO_ROWS,
        shown: Shown | None = None,
        width: float = 1.0,
    ) -> Int32:
        """The `count` rows of the largest inner product with vector (d,) float32, best first: (k,) int32.

        hidden (n,) uint8: non-zero rows are left out, an empty one hides none; blocked_rows (b,) int32, -1 skipped, are left
        out too. k is `count`, or all rows that pass. `shown` says where to search: in rows that hold all that `hidden` leaves,
        and no others, or by a plan of its own. A width below 1 looks at so much less of what a plan says.
        """
        return self._run(vector, count, hidden, blocked_rows, shown, _NO_FLOATS, width)

    def nearest(
        self,
        of: int | Float32,
        count: int,
        hidden: Mask = NO_MASK,
        blocked_rows: Int32 = NO_ROWS,
        shown: Shown | None = None,
    ) -> Int32:
        """The same by cosine with a vector (d,) float32, or with a row, which is then left out itself."""
        if isinstance(of, np.ndarray):
            vector = of
        else:
            blocked_rows = np.append(blocked_rows, np.int32(of))
            vector = self._factors[of]
        if shown is not None and (shown.plan is not None or not shown.complete):
            shown = None  # that is one for inner products
        found = self._run(vector, count, hidden, blocked_rows, shown, self._norms, 1.0)
        return found[self._norms[found] > 0]  # zeros have no direction

    def _run(
        self,
        vector: Float32,
        count: int,
        hidden: Mask,
        blocked: Int32,
        shown: Shown | None,
        weights: Float32,
        width: float,
    ) -> Int32:
        plan = self.plan if shown is None or shown.plan is None else shown.plan
        within = shown is not None and shown.plan is None and shown.complete
        count = min(count, len(shown.rows) if shown is not None and within else len(self._factors))
        if count <= 0:
            return NO_ROWS
        table = self._blocked.of(blocked) if len(blocked) else NO_ROWS
        if shown is not None and shown.layout is not None:
            size = self._by_codes(
                vector, count, shown.layout, hidden, table, weights, (shown.layout.block_count, 0), _ALL
            )
            if size < count and not shown.complete:  # too many of its rows are blocked, or hidden since
                return self._run(vector, count, hidden, blocked, None, weights, width)
        elif plan.kind == EXACT or self.layout is None or (shown is not None and shown.plan is None):
            rows = None if shown is None or shown.plan else shown.rows
            size = self._exactly(vector, count, hidden, table, rows, weights)
        else:
            widths = self._widths(hidden, len(weights) > 0) if plan is self.plan else self._widths_of(plan)
            widths = math.ceil(widths[0] * width), math.ceil(widths[1] * width)
            size = self._by_codes(vector, count, self.layout, hidden, table, weights, widths, plan)
        return self._rescored(vector, count, size, weights)

    def _rescored(self, vector: Float32, count: int, size: int, weights: Float32) -> Int32:
        kept = kernels.rescore(
            vector, self._factors, weights, self._keys, size, count, self._spare, self._best
        )
        return self._best[:kept].copy()

    def _exactly(
        self, vector: Float32, count: int, hidden: Mask, table: Int32, shown: Int32 | None, weights: Float32
    ) -> int:
        self._reserve(count)
        self.row_count = len(self._factors) if shown is None else len(shown)
        room = self._keys[: count + limits.SPARE_COUNT]
        rows = NO_ROWS if shown is None else shown
        size = kernels.scan_rows(
            vector, self._factors, self._falling, weights, rows, hidden, table, room, count
        )
        return int(size)

    def _by_codes(
        self,
        vector: Float32,
        count: int,
        layout: Layout,
        hidden: Mask,
        table: Int32,
        weights: Float32,
        widths: tuple[int, int],
        plan: Plan,
    ) -> int:
        """Searches the layout's codes: the blocks of its head and the cells that `widths` says, those that the plan's slack leaves."""
        survivors = max(plan.survivors, count + count // 4)
        self._reserve(survivors)
        scale, bias = kernels.quantise(vector, self._query)
        (head, probes), reach = widths, math.inf
        if not len(weights):
            reach = float(np.linalg.norm(vector)) / float(scale) * plan.slack
        sampled = True
        while True:
            size, self.row_count = kernels.search_blocks(
                self._query, bias, np.float32(reach), layout.codes.reshape(-1),
                layout.unit_scales if len(weights) else layout.scales, layout.rows, layout.norms, layout.starts,
                head, layout.cell_codes.reshape(-1), layout.cell_scales, layout.cell_rows, layout.cell_norms, probes,
                self._cell_keys[: 2 * probes + BLOCK_ROW_COUNT], hidden, table,
                self._keys[: survivors + limits.SPARE_COUNT], survivors, self._spare, self._scores, sampled,
            )  # fmt: skip
            if size >= count or (
                head == layout.starts[0] and probes == layout.cell_count and reach == math.inf and not sampled
            ):
                return int(size)
            head, probes, reach = self._wider(head, probes, layout)
            sampled = False

    def _wider(self, head: int, probes: int, layout: Layout) -> tuple[int, int, float]:
        # In the end everything is scanned: 0.6 ms a million rows, and no answer is short while rows pass.
        head = min(int(layout.starts[0]), _WIDER * max(head, 1))
        probes = min(layout.cell_count, _WIDER * max(probes, limits.WIDEN_PROBE_COUNT))
        return head, probes, math.inf

    def _widths(self, hidden: Mask, by_cosine: bool) -> tuple[int, int]:
        """Blocks of the head and cells to look into: more the more rows are hidden."""
        layout = self.layout
        assert layout is not None
        share = self._shown_share(hidden)
        head_max, cell_max = int(layout.starts[0]), layout.cell_count
        if by_cosine:
            probes = limits.NEAREST_PROBE_COUNT / share
            return head_max, min(cell_max, max(math.ceil(probes), self.plan.probe_count))
        head = -(-self.plan.head_count // BLOCK_ROW_COUNT) / share
        probes = self.plan.probe_count / share + limits.WIDEN_PROBE_COUNT * (1 / share - 1)
        if self.plan.kind != HEAD_CELLS:
            probes = 0
        return min(head_max, math.ceil(head)), min(cell_max, math.ceil(probes))

    def _widths_of(self, plan: Plan) -> tuple[int, int]:
        layout = self.layout
        assert layout is not None
        head = -(-plan.head_count // BLOCK_ROW_COUNT)
        return min(int(layout.starts[0]), head), min(layout.cell_count, plan.probe_count)

    def _shown_share(self, hidden: Mask) -> float:
        if not len(hidden):
            return 1.0
        if hidden is not self._share_of or self._share_left <= 0:
            step = max(1, len(hidden) // limits.SHARE_SAMPLE_COUNT)
            sample = hidden[::step]
            shown = len(sample) - int(np.count_nonzero(sample))
            self._share = (shown + 1) / (len(sample) + 1)
            self._share_of, self._share_left = hidden, limits.SHARE_SEARCH_COUNT
        self._share_left -= 1
        return self._share

    def _reserve(self, survivors: int) -> None:
        room = survivors + limits.SPARE_COUNT
        if len(self._keys) < room:
            self._keys = np.zeros(room, dtype=np.uint64)
            self._spare = np.zeros(max(room, len(self._cell_keys)), dtype=np.uint64)
            self._best = np.zeros(room, dtype=np.int32)


def _check(layout: Layout | None, row_count: int, factor_count: int) -> None:
    """ValueError where a kernel would read beyond an array."""
    if layout is None:
        return
    blocks, groups = len(layout.norms), -(-factor_count // GROUP_DIMENSION_COUNT)
    cells, width = len(layout.cell_norms), groups * GROUP_DIMENSION_COUNT * BLOCK_ROW_COUNT
    lengths = {len(layout.scales), len(layout.unit_scales), len(layout.rows)}
    good = (
        lengths == {blocks * BLOCK_ROW_COUNT}
        and layout.codes.size == blocks * width
        and len(layout.cell_scales) == len(layout.cell_rows) == cells * BLOCK_ROW_COUNT
        and layout.cell_codes.size == cells * width
        and len(layout.starts) > 0
        and int(layout.starts[-1]) == blocks
        and int(layout.rows.max(initial=-1)) < row_count
        and int(layout.cell_rows.max(initial=-1)) < layout.cell_count
        and bool(np.all(np.diff(layout.starts, prepend=0) >= 0))
    )
    if not good:
        raise ValueError("its retrieval arrays are not of its items")
