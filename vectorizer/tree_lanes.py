"""Sixteen candidates through a whole forest at a time: each tree is six comparisons and a look-up inside registers.

A tree of depth 4 to 6 has 16 to 64 leaves, which are one to four AVX-512 registers; `vpermi2ps` picks sixteen of 32
numbers at once. Scores are summed in float64, tree by tree, as the plain loop does: the same bits come out.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.core import config
from numba.extending import intrinsic

from vectorizer.lanes import splat

cgutils: Any = untyped_cgutils
WIDTH = 16  # candidates of one register
LEAF_COUNT_MIN, LEAF_COUNT_MAX = 16, 64
PART_COUNT = 4  # registers of candidates that share one pass along the trees

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(_INT32, WIDTH)
_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)


def is_wide() -> bool:
    """Whether this processor has the instructions, and numba compiles for this processor."""
    if getattr(config, "CPU_NAME", None) or getattr(config, "CPU_FEATURES", None):
        return False
    return bool(binding.get_host_cpu_features().get("avx512f"))


def _leaf_numbers(builder: Any, parts: int, features: Any, stride: Any, at: Any, tree: Any) -> list[Any]:
    """One vector of leaf numbers a part; tree is (tested, borders, first, depth): pointers, an offset and a length."""
    tested, borders, first, depth = tree
    leaf = [cgutils.alloca_once(builder, _INTS) for _ in range(parts)]
    for each in leaf:
        builder.store(ir.Constant(_INTS, None), each)
    last = builder.sub(builder.add(first, depth), _INT64(1))
    with cgutils.for_range(builder, depth) as loop:
        level = builder.sub(last, loop.index)  # the highest bit first
        feature = builder.zext(builder.load(builder.gep(tested, [level])), _INT64)
        start = builder.add(builder.mul(feature, stride), at)
        border = splat(builder, builder.load(builder.gep(borders, [level])), _FLOATS)
        row = builder.bitcast(builder.gep(features, [start]), _FLOATS.as_pointer())
        for part, each in enumerate(leaf):
            values = builder.load(builder.gep(row, [_INT64(part)]), align=4)
            above = builder.sext(builder.fcmp_ordered(">", values, border), _INTS)  # -1 or 0
            doubled = builder.shl(builder.load(each), ir.Constant(_INTS, [1] * WIDTH))
            builder.store(builder.sub(doubled, above), each)
    return [builder.load(each) for each in leaf]


def _typed(parts: int) -> Any:
    def typed(
        typing: Any,
        features: Any,
        at: Any,
        tested: Any,
        borders: Any,
        leaves: Any,
        bias: Any,
        scores: Any,
    ) -> Any:
        """scores[at : at + parts * WIDTH] = bias + the trees' leaves."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def opened(i: int) -> Any:
                return context.make_array(signature.args[i])(context, builder, args[i])

            table, tests, tops, ends, out = (opened(i) for i in (0, 2, 3, 4, 6))
            stride = builder.extract_value(table.shape, 1)
            tree_count, depth = (builder.extract_value(tests.shape, i) for i in (0, 1))
            width = builder.extract_value(ends.shape, 1)
            kind = ir.FunctionType(_FLOATS, [_FLOATS, _INTS, _FLOATS])
            pick = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpermi2var.ps.512")
            # Where there are fewer leaves the other registers hold what is never picked.
            starts = [_INT64(WIDTH * i) for i in range(LEAF_COUNT_MAX // WIDTH)]
            starts = [builder.select(builder.icmp_unsigned("<", s, width), s, _INT64(0)) for s in starts]
            first = splat(builder, args[5], _DOUBLES)
            sums = [cgutils.alloca_once_value(builder, first) for _ in range(parts)]
            with cgutils.for_range(builder, tree_count) as loop:
                tree = (tests.data, tops.data, builder.mul(loop.index, depth), depth)
                numbers = _leaf_numbers(builder, parts, table.data, stride, args[1], tree)
                begin = builder.mul(loop.index, width)
                places = [builder.gep(ends.data, [builder.add(begin, start)]) for start in starts]
                quarters = [builder.load(builder.bitcast(p, _FLOATS.as_pointer()), align=4) for p in places]
                for number, total in zip(numbers, sums, strict=True):
                    low = builder.call(pick, [quarters[0], number, quarters[1]])
                    high = builder.call(pick, [quarters[2], number, quarters[3]])
                    upper = builder.icmp_unsigned(">", number, ir.Constant(_INTS, [31] * WIDTH))
                    value = builder.fpext(builder.select(upper, high, low), _DOUBLES)
                    builder.store(builder.fadd(builder.load(total), value), total)
            target = builder.bitcast(builder.gep(out.data, [args[1]]), _DOUBLES.as_pointer())
            for part, total in enumerate(sums):
                builder.store(builder.load(total), builder.gep(target, [_INT64(part)]), align=8)
            return context.get_dummy_value()

        arrays = (features, types.uint64, tested, borders, leaves, types.float64, scores)
        return types.void(*arrays), generate

    return typed


score_one: Any = intrinsic(_typed(1))
score_parts: Any = intrinsic(_typed(PART_COUNT))
