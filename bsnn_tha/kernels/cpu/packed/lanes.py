"""Sixteen numbers of 32 bits at once, as a type of numba: its loops can add and multiply them.

    v = load(membranes, at)
    v = leaked(v, load(decays, at), 20) + current

:class:`_Lanes` are LLVM's vectors, so that every processor runs them, in as many instructions as
its registers ask for. Sums and products wrap around. ``widened`` are the same numbers in 64 bits,
for sums that 32 would not hold.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.extending import models, register_model
from numba.extending import overload

from bsnn_tha.kernels.cpu.packed.vectors import (
    everywhere,
    intrinsic,
    load_vector,
    pointer_to,
    store_vector,
)

COUNT = 16
_INT16, _INT32, _INT64 = (ir.IntType(bits) for bits in (16, 32, 64))
_NARROW, _WIDE, _PAIRS = (
    ir.VectorType(element, count)
    for element, count in ((_INT32, COUNT), (_INT64, COUNT), (_INT64, COUNT // 2))
)


class _Lanes(types.Type):
    pass


class _WideLanes(types.Type):
    pass


LANES, WIDE_LANES = _Lanes("lanes"), _WideLanes("wide_lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, _NARROW)


@register_model(_WideLanes)
class _WideLanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, _WIDE)


def _operation(name: str) -> Any:
    """An instruction of LLVM on two vectors of a kind."""

    @intrinsic
    def of_both(context, left, right):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
            return getattr(builder, name)(*values)

        return left(left, right), build

    return of_both


_add, _sub, _mul = map(_operation, ("add", "sub", "mul"))


@overload(operator.add)
def _plus(left, right):  # type: ignore[no-untyped-def]
    if left == right and left in (LANES, WIDE_LANES):
        return lambda left, right: _add(left, right)
    return None


@overload(operator.sub)
def _minus(left, right):  # type: ignore[no-untyped-def]
    if left == right and left in (LANES, WIDE_LANES):
        return lambda left, right: _sub(left, right)
    return None


@overload(operator.mul)
def _times(left, right):  # type: ignore[no-untyped-def]
    if left == right == LANES:
        return lambda left, right: _mul(left, right)
    return None


@intrinsic
def load(context, array, at):  # type: ignore[no-untyped-def]
    """Numbers of an array of 32 bits, from ``at`` on."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = pointer_to(context, builder, signature, values, 0)
        return load_vector(builder, pointer, _INT32, COUNT)

    return LANES(array, types.intp), build


@intrinsic
def store(context, array, at, lanes):  # type: ignore[no-untyped-def]
    """The reverse of :func:`load`."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        store_vector(builder, values[2], pointer_to(context, builder, signature, values, 0))
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), build


@intrinsic
def clear(context, array, at):  # type: ignore[no-untyped-def]
    """Zeros, where :func:`store` would put numbers."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        zeros = ir.Constant(_NARROW, [0] * COUNT)
        store_vector(builder, zeros, pointer_to(context, builder, signature, values, 0))
        return context.get_dummy_value()

    return types.void(array, types.intp), build


@intrinsic
def at_least(context, left, right):  # type: ignore[no-untyped-def]
    """Which numbers are at others or above, as the bits of a unit."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.zext(builder.bitcast(builder.icmp_signed(">=", *values), _INT16), _INT64)

    return types.int64(LANES, LANES), build


@intrinsic
def only_where(context, unit, lanes):  # type: ignore[no-untyped-def]
    """The numbers whose bits of a unit are 1, and 0 elsewhere."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        bits = builder.bitcast(
            builder.trunc(values[0], _INT16), ir.VectorType(ir.IntType(1), COUNT)
        )
        return builder.select(bits, values[1], ir.Constant(_NARROW, [0] * COUNT))

    return LANES(types.int64, LANES), build


@intrinsic
def widened(context, lanes):  # type: ignore[no-untyped-def]
    """The numbers in 64 bits."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.sext(values[0], _WIDE)

    return WIDE_LANES(LANES), build


@intrinsic
def held(context, wide, low, high):  # type: ignore[no-untyped-def]
    """The numbers within bounds, in 32 bits."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        value, low, high = values[0], *(everywhere(builder, its, COUNT) for its in values[1:])
        value = builder.select(builder.icmp_signed("<", value, low), low, value)
        value = builder.select(builder.icmp_signed(">", value, high), high, value)
        return builder.trunc(value, _NARROW)

    return LANES(WIDE_LANES, types.int64, types.int64), build


@intrinsic
def leaked(context, lanes, decays, bits):  # type: ignore[no-untyped-def]
    """``(decays · lanes + 2^(bits − 1)) >> bits``, a number that fits 32 bits though the product
    does not: products are taken of every other number at a time, as processors do."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        def constant(number: int) -> Any:
            return ir.Constant(_PAIRS, [number] * (COUNT // 2))

        numbers, decays = (builder.bitcast(value, _PAIRS) for value in values[:2])
        bits = everywhere(builder, values[2], COUNT // 2)
        half = builder.shl(constant(1), builder.sub(bits, constant(1)))

        def even(pairs: Any) -> Any:
            return builder.ashr(builder.shl(pairs, constant(32)), constant(32))

        def odd(pairs: Any) -> Any:
            return builder.ashr(pairs, constant(32))

        first = builder.add(builder.mul(even(numbers), even(decays)), half)
        second = builder.add(builder.mul(odd(numbers), odd(decays)), half)
        # Of each product the 32 bits from ``bits`` on, where the number was.
        low, high = constant((1 << 32) - 1), constant(-1 << 32)
        first = builder.and_(builder.lshr(first, bits), low)
        second = builder.shl(second, builder.sub(constant(32), bits))
        return builder.bitcast(builder.or_(first, builder.and_(second, high)), _NARROW)

    return LANES(LANES, LANES, types.int64), build
