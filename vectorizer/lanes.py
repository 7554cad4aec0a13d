"""Steps over one block of LANE_COUNT float32 numbers, written as LLVM's vector operations.

Numba leaves LLVM's vectoriser of straight code off, and unrolls a short loop of known length into straight code before
its vectoriser of loops sees it; loops of unknown length end in a remainder of single numbers. Both cost a Cholesky of 64
more than its arithmetic. A vector operation is what it says: one instruction with AVX-512, two with AVX2.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic as _intrinsic

from vectorizer.limits import LANE_COUNT

_BLOCK = ir.VectorType(ir.FloatType(), LANE_COUNT)
intrinsic: Any = _intrinsic  # its own type would count the typing context as an argument of the caller
_FAST = ("fast",)  # sums in any order, and one rounding for a product and its sum


@intrinsic
def add_scaled(typing: Any, y: Any, y_at: Any, x: Any, x_at: Any, scale: Any) -> Any:
    """y[y_at : y_at + LANE_COUNT] += scale * x[x_at : x_at + LANE_COUNT]; flat float32 arrays, unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = _pointer(context, builder, signature.args[0], args[0], args[1])
        source = _pointer(context, builder, signature.args[2], args[2], args[3])
        product = builder.fmul(_spread(builder, args[4]), builder.load(source, align=4), flags=_FAST)
        builder.store(builder.fadd(builder.load(target, align=4), product, flags=_FAST), target, align=4)
        return context.get_dummy_value()

    return types.void(y, types.uint64, x, types.uint64, types.float32), codegen


@intrinsic
def multiply(typing: Any, y: Any, y_at: Any, scale: Any) -> Any:
    """y[y_at : y_at + LANE_COUNT] *= scale."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = _pointer(context, builder, signature.args[0], args[0], args[1])
        product = builder.fmul(_spread(builder, args[2]), builder.load(target, align=4), flags=_FAST)
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
def lowest_bit(typing: Any, mask: Any) -> Any:
    """The place of the lowest bit that is set in a uint64, 0..63; the mask is not zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _BLOCK.as_pointer())


def _spread(builder: Any, value: Any) -> Any:
    single = builder.insert_element(ir.Constant(_BLOCK, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), LANE_COUNT), [0] * LANE_COUNT)
    return builder.shuffle_vector(single, ir.Constant(_BLOCK, ir.Undefined), places)


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
