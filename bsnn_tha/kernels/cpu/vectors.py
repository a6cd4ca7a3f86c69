"""Whole vectors in compiled loops: sums of rows whose length the compiler knows.

numba vectorizes long loops. Where a row is one or two of the processor's vectors,
the loop around it costs more than the row; these functions are the vectors themselves.
``lanes``, how many values, is a constant of the loop they are called in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from bsnn_tha.kernels.cpu.compiled import intrinsic

# Bits of the widest registers; a processor that has narrower ones takes several.
_REGISTER = 512
# Registers that sums may take, of 32.
_SUMS = 24


@register_jitable
def aligned_zeros(size, dtype):  # type: ignore[no-untyped-def]
    """Zeros that begin where a line of the cache does: a vector that lies in two is read twice."""
    array = np.zeros(size + _REGISTER // 8, dtype)
    begin = -array.ctypes.data % (_REGISTER // 8) // array.itemsize
    return array[begin : begin + size]


@intrinsic(prefer_literal=True)
def add_row(context, target, to, source, of, lanes):  # type: ignore[no-untyped-def]
    """``target[to : to + lanes] += source[of : of + lanes]``, of the same type."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        target_type, _, source_type, *_ = signature.args
        floats = isinstance(target_type.dtype, types.Float)
        add = builder.fadd if floats else builder.add
        for begin, count in _pieces(lanes.literal_value, target_type.dtype.bitwidth):
            offset = values[1].type(begin)
            to, of = (builder.add(value, offset) for value in (values[1], values[3]))
            into = vector_at(context, builder, target_type, values[0], to, count)
            added = load(builder, vector_at(context, builder, source_type, values[2], of, count))
            store(builder, add(load(builder, into), added), into)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, lanes), build


@intrinsic(prefer_literal=True)
def add_rows(context, target, to, source, places, first, last, back, lanes):  # type: ignore[no-untyped-def]
    """``target[to : to + lanes] += Σ_k source[p_k : p_k + lanes]`` with p_k = places[k] − back.

    For k from ``first`` to ``last`` − 1. Sums stay in registers, as many as there are at a time.
    """

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        target_type, _, source_type, places_type, *_ = signature.args
        target, to, source, places, first, last, back, _ = values
        intp = to.type
        listed = context.make_array(places_type)(context, builder, places).data
        pieces = list(_pieces(lanes.literal_value, target_type.dtype.bitwidth))
        for some in (pieces[i : i + _SUMS] for i in range(0, len(pieces), _SUMS)):
            rows = [
                vector_at(
                    context, builder, target_type, target, builder.add(to, intp(begin)), count
                )
                for begin, count in some
            ]
            sums = [cgutils.alloca_once_value(builder, load(builder, row)) for row in rows]
            with cgutils.for_range_slice(builder, first, last, intp(1), intp) as (k, _):
                place = builder.sext(builder.load(builder.gep(listed, [k])), intp)
                place = builder.sub(place, back)
                for (begin, count), total in zip(some, sums, strict=True):
                    of = builder.add(place, intp(begin))
                    added = load(
                        builder, vector_at(context, builder, source_type, source, of, count)
                    )
                    builder.store(builder.fadd(builder.load(total), added), total)
            for row, total in zip(rows, sums, strict=True):
                store(builder, builder.load(total), row)
        return context.get_dummy_value()

    signature = types.void(
        target, types.intp, source, places, types.intp, types.intp, types.intp, lanes
    )
    return signature, build


def _pieces(lanes: int, bits: int) -> Iterator[tuple[int, int]]:
    """Where vectors begin and how many values they have: the largest that registers hold."""
    begin, count = 0, _REGISTER // bits
    while begin < lanes:
        while count > lanes - begin:
            count //= 2
        yield begin, count
        begin += count


def vector_at(context: Any, builder: Any, array_type: Any, value: Any, at: Any, count: int) -> Any:
    """Pointer to a vector in an array."""
    array = context.make_array(array_type)(context, builder, value)
    vector = ir.VectorType(context.get_data_type(array_type.dtype), count)
    return builder.bitcast(builder.gep(array.data, [at]), vector.as_pointer())


def load(builder: Any, pointer: Any) -> Any:
    """The vector there, wherever it begins."""
    vector = builder.load(pointer)
    vector.align = 1
    return vector


def store(builder: Any, vector: Any, pointer: Any) -> None:
    """Write the vector there, wherever that is."""
    builder.store(vector, pointer).align = 1


@intrinsic(prefer_literal=True)
def add_products(  # type: ignore[no-untyped-def]
    context, rows, at, columns, of, target,
    to, places, first, count, depth, adds, lanes,
):  # fmt: skip
    """``target[p_i :] = Σ_k rows[i, k] columns[k, :]`` for ``count`` rows i; ``+=`` with ``adds``.

    ``rows`` are ``depth`` values each from ``at`` on, ``columns`` ``lanes`` values each from ``of``
    on; p_i is ``to + places[first + i]``. All sums stay in registers: ``count`` of them, each
    one vector.
    """
    rows_of, depth_of, lanes_of = (its.literal_value for its in (count, depth, lanes))
    adding = adds.literal_value

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        rows_type, _, columns_type, _, target_type, _, places_type, *_ = signature.args
        left, at, columns, of, target, to, places, first, *_ = values
        left, places = (
            builder.gep(context.make_array(its)(context, builder, array).data, [begin])
            for its, array, begin in ((rows_type, left, at), (places_type, places, first))
        )
        real, intp = context.get_data_type(rows_type.dtype), at.type
        vector = ir.VectorType(real, lanes_of)
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector] * 3),
            f"llvm.fma.v{lanes_of}f{rows_type.dtype.bitwidth}",
        )
        undefined = ir.Constant(vector, ir.Undefined)
        same_lane = ir.Constant(ir.VectorType(ir.IntType(32), lanes_of), [0] * lanes_of)
        targets, sums = [], []
        for i in range(rows_of):
            place = builder.add(to, builder.load(builder.gep(places, [intp(i)])))
            targets.append(vector_at(context, builder, target_type, target, place, lanes_of))
            before = load(builder, targets[i]) if adding else ir.Constant(vector, [0.0] * lanes_of)
            sums.append(cgutils.alloca_once_value(builder, before))
        with cgutils.for_range(builder, intp(depth_of)) as loop:
            begin = builder.add(of, builder.mul(loop.index, intp(lanes_of)))
            column = load(
                builder, vector_at(context, builder, columns_type, columns, begin, lanes_of)
            )
            top = builder.gep(left, [loop.index])
            for i, total in enumerate(sums):
                number = builder.load(builder.gep(top, [intp(i * depth_of)]))
                number = builder.insert_element(undefined, number, intp(0))
                everywhere = builder.shuffle_vector(number, undefined, same_lane)
                more = builder.call(fma, [everywhere, column, builder.load(total)])
                builder.store(more, total)
        for row, total in zip(targets, sums, strict=True):
            store(builder, builder.load(total), row)
        return context.get_dummy_value()

    signature = types.void(
        rows, types.intp, columns, types.intp, target, types.intp, places, types.intp,
        count, depth, adds, lanes,
    )  # fmt: skip
    return signature, build


@intrinsic(prefer_literal=True)
def add_outer_products(context, rows, at, columns, of, target, to, depth, lanes):  # type: ignore[no-untyped-def]  # fmt: skip
    """``target[i, :] += Σ_k rows[k, i] columns[k, :]`` for ``lanes`` rows i.

    All are ``lanes`` values wide, from ``at``, ``of`` and ``to`` on, and float32. All sums stay in
    registers.
    """
    lanes_of = lanes.literal_value

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        rows_type, _, columns_type, _, target_type, *_ = signature.args
        rows, at, columns, of, target, to, depth, _ = values
        intp = at.type
        vector = ir.VectorType(ir.FloatType(), lanes_of)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes_of}f32"
        )
        undefined = ir.Constant(vector, ir.Undefined)
        same_lane = ir.Constant(ir.VectorType(ir.IntType(32), lanes_of), [0] * lanes_of)
        targets = [
            vector_at(
                context, builder, target_type, target, builder.add(to, intp(i * lanes_of)), lanes_of
            )
            for i in range(lanes_of)
        ]
        sums = [cgutils.alloca_once_value(builder, load(builder, row)) for row in targets]
        left = builder.gep(context.make_array(rows_type)(context, builder, rows).data, [at])
        with cgutils.for_range(builder, depth) as loop:
            step = builder.mul(loop.index, intp(lanes_of))
            begin = builder.add(of, step)
            column = load(
                builder, vector_at(context, builder, columns_type, columns, begin, lanes_of)
            )
            top = builder.gep(left, [step])
            for i, total in enumerate(sums):
                number = builder.load(builder.gep(top, [intp(i)]))
                number = builder.insert_element(undefined, number, intp(0))
                everywhere = builder.shuffle_vector(number, undefined, same_lane)
                builder.store(builder.call(fma, [everywhere, column, builder.load(total)]), total)
        for row, total in zip(targets, sums, strict=True):
            store(builder, builder.load(total), row)
        return context.get_dummy_value()

    signature = types.void(
        rows, types.intp, columns, types.intp, target, types.intp, types.intp, lanes
    )
    return signature, build
