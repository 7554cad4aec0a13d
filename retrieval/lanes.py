"""Thirty-two rows against one query: the inner loop of the scan, by the processor's own int8 instruction where it has one.

A block holds BLOCK_ROW_COUNT rows, four dimensions of each row side by side: (groups, BLOCK_ROW_COUNT, 4) uint8, a code
of c stored as c + 128. One `vpdpbusd` multiplies 64 unsigned by 64 signed bytes and adds them up by fours, that is four
dimensions of sixteen rows: 0.6 ns a row of 64 dimensions, and no sum across lanes. LLVM does not find it in a plain
loop (it took 3.5 ns), so it is asked for by name. Without it the plain loop gives the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils as untyped_cgutils
from numba.core import config
from numba.extending import intrinsic

from vectorizer.lanes import splat

BLOCK_ROW_COUNT = 32
GROUP_DIMENSION_COUNT = 4
CODE_ZERO = 128  # what the code 0 is stored as: the instruction's first operand has no sign

cgutils: Any = untyped_cgutils
_INT32 = ir.IntType(32)


def _lane_count() -> int:
    """Rows that one instruction sums: 16, or 8 of a processor with the narrow form; 0: it has none."""
    if getattr(config, "CPU_NAME", None) or getattr(config, "CPU_FEATURES", None):
        return 0  # compiled for another processor than this one: the plain loop runs on all
    features = binding.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vnni"):
        return 16
    return 8 if features.get("avxvnni") else 0


LANE_COUNT = _lane_count()


def _sums(builder: Any, codes: Any, query: Any, group_count: Any) -> list[Any]:
    """The int32 sums of the block at `codes`, as BLOCK_ROW_COUNT / LANE_COUNT vectors."""
    wide = ir.VectorType(_INT32, LANE_COUNT)
    name = f"llvm.x86.avx512.vpdpbusd.{LANE_COUNT * 32}"
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(wide, [wide, wide, wide]), name
    )
    part_count = BLOCK_ROW_COUNT // LANE_COUNT
    parts = [cgutils.alloca_once_value(builder, ir.Constant(wide, None)) for _ in range(part_count)]
    with cgutils.for_range(builder, group_count) as loop:
        four = splat(builder, builder.load(builder.gep(query, [loop.index])), wide)
        first = builder.mul(loop.index, ir.Constant(group_count.type, part_count))
        for i, part in enumerate(parts):
            place = builder.gep(codes, [builder.add(first, ir.Constant(group_count.type, i))])
            stored = builder.load(place, align=1)
            builder.store(builder.call(multiply_add, [builder.load(part), stored, four]), part)
    return [builder.load(part) for part in parts]


def _generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    def open_array(i: int) -> Any:
        return context.make_array(signature.args[i])(context, builder, args[i])

    wide, floats = ir.VectorType(_INT32, LANE_COUNT), ir.VectorType(ir.FloatType(), LANE_COUNT)
    _, at, _, _, scale_at, bias, threshold, _ = args
    query = open_array(2)
    codes = builder.bitcast(builder.gep(open_array(0).data, [at]), wide.as_pointer())
    group_count = builder.extract_value(query.shape, 0)
    scales = builder.bitcast(builder.gep(open_array(3).data, [scale_at]), floats.as_pointer())
    out = builder.bitcast(open_array(7).data, floats.as_pointer())
    bias, threshold = splat(builder, bias, wide), splat(builder, threshold, floats)
    mask = ir.Constant(_INT32, 0)
    for i, part in enumerate(_sums(builder, codes, query.data, group_count)):
        place = [ir.Constant(group_count.type, i)]
        scores = builder.sitofp(builder.sub(part, bias), floats)
        scores = builder.fmul(scores, builder.load(builder.gep(scales, place), align=4))
        builder.store(scores, builder.gep(out, place), align=4)
        above = builder.bitcast(builder.fcmp_ordered(">", scores, threshold), ir.IntType(LANE_COUNT))
        shifted = builder.shl(builder.zext(above, _INT32), ir.Constant(_INT32, i * LANE_COUNT))
        mask = builder.or_(mask, shifted)
    return mask


def _block_scores_typed(
    typing_context: Any,
    codes: Any,
    at: Any,
    query: Any,
    scales: Any,
    scale_at: Any,
    bias: Any,
    threshold: Any,
    out: Any,
) -> Any:
    signature = types.uint32(codes, types.intp, query, scales, types.intp, types.int32, types.float32, out)
    return signature, _generate


_block_scores_wide: Any = intrinsic(_block_scores_typed)  # numba fills the first argument in


@njit(cache=True, nogil=True)
def block_scores_plain(
    codes: np.ndarray,
    at: int,
    query: np.ndarray,
    scales: np.ndarray,
    scale_at: int,
    bias: np.int32,
    threshold: np.float32,
    out: np.ndarray,
) -> np.uint32:
    """What `block_scores` does, for processors without the instruction."""
    mask = np.uint32(0)
    for lane in range(BLOCK_ROW_COUNT):
        total = -bias
        for group in range(query.shape[0]):
            word = query[group]
            start = at + (group * BLOCK_ROW_COUNT + lane) * GROUP_DIMENSION_COUNT
            for i in range(GROUP_DIMENSION_COUNT):
                total += np.int32(codes[start + i]) * np.int32(np.int8((word >> (8 * i)) & 255))
        out[lane] = np.float32(total) * scales[scale_at + lane]
        if out[lane] > threshold:
            mask |= np.uint32(1) << np.uint32(lane)
    return mask


@njit(cache=True, nogil=True)
def _block_scores_native(
    codes: np.ndarray,
    at: int,
    query: np.ndarray,
    scales: np.ndarray,
    scale_at: int,
    bias: np.int32,
    threshold: np.float32,
    out: np.ndarray,
) -> np.uint32:
    """Scores the block of codes that starts at byte `at`, and returns a bit for each row whose score is above `threshold`.

    codes (b,) uint8; query (groups,) int32, four int8 codes each; scales (rows,) float32, the block's from `scale_at`
    on; bias = CODE_ZERO times the sum of the query's codes; out (BLOCK_ROW_COUNT,) float32 is overwritten.
    """
    return _block_scores_wide(codes, at, query, scales, scale_at, bias, threshold, out)  # type: ignore[no-any-return]


block_scores = _block_scores_native if LANE_COUNT else block_scores_plain
