"""Where each row's code lies: the head by falling norm, then the cells, in each of them by falling norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from retrieval.kernels import CODE_MAX
from retrieval.lanes import BLOCK_ROW_COUNT, CODE_ZERO, GROUP_DIMENSION_COUNT

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Codes = NDArray[np.uint8]

PREFIX = "retrieval_"


@dataclass(frozen=True)
class Blocks:
    """b blocks of BLOCK_ROW_COUNT rows; where a block has fewer, its rows are -1."""

    codes: Codes  # (b, bytes of a block) uint8, see lanes.py
    scales: Float32  # (b * BLOCK_ROW_COUNT,) float32, what a row's sum is multiplied by
    rows: Int32  # (b * BLOCK_ROW_COUNT,) int32
    norms: Float32  # (b,) float32, the largest norm in the block

    @property
    def block_count(self) -> int:
        return len(self.norms)


@dataclass(frozen=True)
class Layout:
    """The arrays of a plan that is not exact: the rows' blocks, and the centroids' as a catalogue of their own."""

    codes: Codes
    scales: Float32
    unit_scales: Float32  # (b * BLOCK_ROW_COUNT,) float32, the same for cosines
    rows: Int32
    norms: Float32
    starts: Int32  # (c + 1,) int32, first block of each cell; the head is the blocks before starts[0]
    cell_codes: Codes
    cell_scales: Float32
    cell_rows: Int32
    cell_norms: Float32

    @property
    def block_count(self) -> int:
        return len(self.norms)

    @property
    def cell_count(self) -> int:
        return len(self.starts) - 1

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by the names that they have in a bundle."""
        return {PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Layout:
        """The layout of `to_arrays`; ValueError names what is missing."""
        missing = [PREFIX + field.name for field in fields(cls) if PREFIX + field.name not in arrays]
        if missing:
            raise ValueError(f"its retrieval lacks the arrays {', '.join(missing)}")
        return cls(**{field.name: arrays[PREFIX + field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Coded:
    """Rows as int8 codes, each with a scale of its own."""

    codes: Codes  # (n, d padded to whole groups) uint8, CODE_ZERO added
    scales: Float32  # (n,) float32
    norms: Float32  # (n,) float32


def encode(factors: Float32, norms: Float32) -> Coded:
    """factors (n, d) float32 as codes of -CODE_MAX to CODE_MAX times the row's largest coordinate."""
    scales = np.max(np.abs(factors), axis=1, initial=0.0).astype(np.float32) / np.float32(CODE_MAX)
    divisor = np.where(scales > 0, scales, np.float32(1.0))[:, None]
    width = -(-factors.shape[1] // GROUP_DIMENSION_COUNT) * GROUP_DIMENSION_COUNT
    codes = np.full((len(factors), width), CODE_ZERO, dtype=np.uint8)
    for at in range(0, len(factors), 65_536):  # in pieces: a float64 copy of a million rows takes half a GB
        part = slice(at, at + 65_536)
        codes[part, : factors.shape[1]] = np.rint(factors[part] / divisor[part]) + CODE_ZERO
    return Coded(codes, scales, norms)


def lay_out(coded: Coded, head_count: int, cells: Int32 | None, centroids: Float32) -> Layout:
    """The layout of rows that lie by falling norm: the first head_count by themselves, the others by their cell.

    cells (n,) int32 names each row's cell; None: all rows are the head. centroids (c, d) float32 of length 1.
    """
    head_count = len(coded.codes) if cells is None else head_count
    cell_count = len(centroids) if cells is not None else 0
    tail = (
        np.zeros(0, dtype=np.int64)
        if cells is None
        else np.argsort(cells[head_count:], kind="stable") + head_count
    )
    sizes = (
        np.zeros(0, dtype=np.int64)
        if cells is None
        else np.bincount(cells[head_count:], minlength=cell_count)
    )
    order, starts = _padded(
        np.concatenate([np.arange(head_count), tail]), np.concatenate([[head_count], sizes])
    )
    blocks = _blocks(coded, order)
    cell_norms = np.ones(len(centroids), dtype=np.float32)
    whole = encode(centroids, cell_norms)
    cell_order, _ = _padded(np.arange(cell_count), np.array([cell_count]))
    own = _blocks(whole, cell_order)
    norms = _by_row(coded.norms, order)
    units = np.divide(blocks.scales, norms, out=np.zeros_like(blocks.scales), where=norms > 0)
    return Layout(
        blocks.codes, blocks.scales, units, blocks.rows, blocks.norms, starts,
        own.codes, own.scales, own.rows, own.norms,
    )  # fmt: skip


def _padded(rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[Int32, Int32]:
    """The rows with -1 behind each run of `sizes`, so that every run fills blocks; and the first block after each run."""
    block_counts = -(-sizes // BLOCK_ROW_COUNT)
    ends = np.cumsum(block_counts)
    order = np.full(int(ends[-1]) * BLOCK_ROW_COUNT, -1, dtype=np.int32)
    run_starts = np.cumsum(sizes) - sizes
    shift = (ends - block_counts) * BLOCK_ROW_COUNT - run_starts
    order[np.arange(len(rows)) + np.repeat(shift, sizes)] = rows
    return order, ends.astype(np.int32)


def _blocks(coded: Coded, order: Int32) -> Blocks:
    scales, norms = _by_row(coded.scales, order), _by_row(coded.norms, order)
    block_count, width = len(order) // BLOCK_ROW_COUNT, coded.codes.shape[1]
    group_count = width // GROUP_DIMENSION_COUNT
    codes = np.empty((block_count, group_count, BLOCK_ROW_COUNT, GROUP_DIMENSION_COUNT), dtype=np.uint8)
    for at in range(0, block_count, 2_048):  # in pieces, as above
        picked = order[at * BLOCK_ROW_COUNT : (at + 2_048) * BLOCK_ROW_COUNT]
        part = coded.codes[np.maximum(picked, 0)] if len(coded.codes) else np.zeros((0, width), np.uint8)
        part = part.reshape(-1, BLOCK_ROW_COUNT, group_count, GROUP_DIMENSION_COUNT)
        codes[at : at + 2_048] = part.transpose(0, 2, 1, 3)
    norms = norms.reshape(-1, BLOCK_ROW_COUNT).max(axis=1, initial=0.0)
    return Blocks(codes.reshape(block_count, width * BLOCK_ROW_COUNT), scales, order, norms)


def _by_row(values: Float32, order: Int32) -> Float32:
    if not len(values):
        return np.zeros(len(order), dtype=np.float32)
    return np.where(order >= 0, values[np.maximum(order, 0)], np.float32(0.0)).astype(np.float32)
