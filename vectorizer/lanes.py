"""Steps over one block of LANE_COUNT float32 numbers, written as LLVM's vector operations.

Numba leaves LLVM's vectoriser of straight code off, and unrolls a short loop of known length into straight code before
its vectoriser of loops sees it; loops of unknown length end in a remainder of single numbers. Both cost a Cholesky of 64
more than its arithmetic. A vector operation is what it says: one instruction with AVX-512, two with AVX2.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic as _intrinsic

from vectorizer.limits import LANE_COUNT

cgutils: Any = untyped_cgutils
_BLOCK = ir.VectorType(ir.FloatType(), LANE_COUNT)
intrinsic: Any = _intrinsic  # its own type would count the typing context as an argument of the caller
_FAST = ("fast",)  # sums in any order, and one rounding for a product and its sum


@intrinsic
def add_scaled(typing: Any, y: Any, y_at: Any, x: Any, x_at: Any, scale: Any) -> Any:
    """y[y_at : y_at + LANE_COUNT] += scale * x[x_at : x_at + LANE_COUNT]; flat float32 arrays, unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = _pointer(context, builder, signature.args[0], args[0], args[1])
        source = _pointer(context, builder, signature.args[2], args[2], args[3])
        product = builder.fmul(splat(builder, args[4], _BLOCK), builder.load(source, align=4), flags=_FAST)
        builder.store(builder.fadd(builder.load(target, align=4), product, flags=_FAST), target, align=4)
        return context.get_dummy_value()

    return types.void(y, types.uint64, x, types.uint64, types.float32), codegen


@intrinsic
def multiply(typing: Any, y: Any, y_at: Any, scale: Any) -> Any:
    """y[y_at : y_at + LANE_COUNT] *= scale."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = _pointer(context, builder, signature.args[0], args[0], args[1])
        product = builder.fmul(splat(builder, args[2], _BLOCK), builder.load(target, align=4), flags=_FAST)
        builder.store(product, target, align=4)
        return context.get_dummy_value()

    return types.void(y, types.uint64, types.float32), codegen


@intrinsic
def inner_block(typing: Any, y: Any, y_at: Any, x: Any, x_at: Any) -> Any:
    """The inner product of two blocks, float32: always summed in the same order."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]), align=4)
        right = builder.load(_pointer(context, builder, signature.args[2], args[2], args[3]), align=4)
        return _sum(builder, builder.fmul(left, right, flags=_FAST), LANE_COUNT)

    return types.float32(y, types.uint64, x, types.uint64), codegen


@intrinsic
def inner_eight(typing: Any, queries: Any, x: Any, x_at: Any, length: Any, out: Any) -> Any:
    """out[:8] = the inner products of eight rows with x[x_at : x_at + length]: x is read once.

    queries float32 of at least 8 * length numbers, the rows one after the other; length a multiple of LANE_COUNT.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(_BLOCK, None)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(8)]
        with cgutils.for_range(
            builder, builder.udiv(args[3], ir.Constant(ir.IntType(64), LANE_COUNT))
        ) as loop:
            at = builder.mul(loop.index, ir.Constant(ir.IntType(64), LANE_COUNT))
            part = builder.load(
                _pointer(context, builder, signature.args[1], args[1], builder.add(args[2], at)), align=4
            )
            for row, total in enumerate(sums):
                start = builder.add(at, builder.mul(args[3], ir.Constant(ir.IntType(64), row)))
                other = builder.load(_pointer(context, builder, signature.args[0], args[0], start), align=4)
                product = builder.fmul(part, other, flags=_FAST)
                builder.store(builder.fadd(builder.load(total), product, flags=_FAST), total)
        eight = _sums_of_eight(builder, [builder.load(total) for total in sums])
        target = context.make_array(signature.args[4])(context, builder, args[4]).data
        builder.store(eight, builder.bitcast(target, eight.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(queries, x, types.uint64, types.uint64, out), codegen


@intrinsic
def prefetch(typing: Any, x: Any, at: Any) -> Any:
    """Asks for the cache line of element `at` of a contiguous array: it comes while other work goes on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (pointer.type,), kind)
        builder.call(function, [pointer, number(0), number(3), number(1)])  # read, keep near, data
        return context.get_dummy_value()

    return types.void(x, types.uint64), codegen


@intrinsic
def lowest_bit(typing: Any, mask: Any) -> Any:
    """The place of the lowest bit that is set in a uint64, 0..63; the mask is not zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _BLOCK.as_pointer())


def splat(builder: Any, value: Any, kind: Any) -> Any:
    """A vector of `kind` that is `value` in every lane."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None)
    return builder.shuffle_vector(first, empty, places)


def _sum(builder: Any, block: Any, width: int) -> Any:
    # Halves onto each other: four steps for sixteen.
    while width > 1:
        width //= 2
        places = [ir.Constant(ir.IntType(32), width + i if i < width else 0) for i in range(LANE_COUNT)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANE_COUNT), [p.constant for p in places])
        block = builder.fadd(
            block, builder.shuffle_vector(block, ir.Constant(_BLOCK, ir.Undefined), mask), flags=_FAST
        )
    return builder.extract_element(block, ir.Constant(ir.IntType(32), 0))


def _sums_of_eight(builder: Any, blocks: list[Any]) -> Any:
    # Eight blocks -> one of eight sums: halves onto each other, two blocks into one at each step.
    width = LANE_COUNT
    while width > LANE_COUNT // 8:
        width //= 2
        starts = range(0, LANE_COUNT, 2 * width)
        low = [start + i for start in starts for i in range(width)]
        high = [place + width for place in low]
        blocks = [_halves(builder, low, high, *blocks[i : i + 2]) for i in range(0, len(blocks), 2)]
    pairs = [[2 * i + one for i in range(8)] for one in (0, 1)]
    even, odd = (_shuffle(builder, blocks[0], blocks[0], places) for places in pairs)
    return builder.fadd(even, odd, flags=_FAST)


def _halves(builder: Any, low: list[int], high: list[int], left: Any, right: Any) -> Any:
    places = [[*half, *(LANE_COUNT + place for place in half)] for half in (low, high)]
    first, second = (_shuffle(builder, left, right, each) for each in places)
    return builder.fadd(first, second, flags=_FAST)


def _shuffle(builder: Any, left: Any, right: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(left, right, mask)
