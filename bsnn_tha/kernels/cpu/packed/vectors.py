"""Vectors that numba has no words for: whole ones, whose lengths the compiler knows.

They are LLVM's vectors, so that every processor runs them, in as many instructions as its
registers ask for. An array is given with a position; whoever calls sees to it that there is
room for the whole vector.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

# Typed by numba without the compiler's own first argument, which callers do not give.
intrinsic: Any = _intrinsic

_INT8, _INT32 = ir.IntType(8), ir.IntType(32)


def pointer_to(context: Any, builder: Any, signature: Any, values: Any, which: int) -> Any:
    """To the element of array ``which`` at the position in the argument after it."""
    array = context.make_array(signature.args[which])(context, builder, values[which])
    return builder.gep(array.data, [values[which + 1]])


def load_vector(builder: Any, pointer: Any, element: Any, lanes: int) -> Any:
    """What is at a pointer, wherever it is."""
    vector = ir.VectorType(element, lanes)
    loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    loaded.align = 1
    return loaded


def store_vector(builder: Any, vector: Any, pointer: Any) -> None:
    """The reverse of :func:`load_vector`."""
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer())).align = 1


def everywhere(builder: Any, value: Any, lanes: int) -> Any:
    """A number in all lanes of a vector."""
    vector = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


@intrinsic
def ones_of(context, word):  # type: ignore[no-untyped-def]
    """How many bits of a word are set."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.ctpop(values[0])

    return types.int64(types.int64), build


@intrinsic
def word_of(context, units, at):  # type: ignore[no-untyped-def]
    """Four units of 16 bits from ``at`` on, as one word."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = pointer_to(context, builder, signature, values, 0)
        loaded = builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()))
        loaded.align = 1
        return loaded

    return types.int64(units, types.intp), build


@intrinsic
def store_word(context, units, at, word):  # type: ignore[no-untyped-def]
    """The reverse of :func:`word_of`."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = pointer_to(context, builder, signature, values, 0)
        builder.store(values[2], builder.bitcast(pointer, values[2].type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(units, types.intp, types.int64), build


@intrinsic(prefer_literal=True)
def others_than(context, array, at, value):  # type: ignore[no-untyped-def]
    """Which of 64 numbers from ``at`` on differ from a constant, as bits."""
    constant = value.literal_value

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        element = context.get_data_type(signature.args[0].dtype)
        pointer = pointer_to(context, builder, signature, values, 0)
        numbers = load_vector(builder, pointer, element, 64)
        same = ir.Constant(numbers.type, [constant] * 64)
        return builder.bitcast(builder.icmp_unsigned("!=", numbers, same), ir.IntType(64))

    return types.int64(array, types.intp, value), build


@intrinsic
def list_ones(context, listed, to, positions, byte, scale, base):  # type: ignore[no-untyped-def]
    """``listed[to : to + 8] = base + scale · positions[byte]``: 8 numbers, of which the first
    as many count as the byte has ones."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        eight = builder.mul(values[3], values[3].type(8))
        rows = [values[2], eight]
        source = pointer_to(
            context, builder, signature.replace(args=(signature.args[2], types.intp)), rows, 0
        )
        wide = builder.zext(load_vector(builder, source, _INT8, 8), ir.VectorType(_INT32, 8))
        scale, base = (everywhere(builder, builder.trunc(value, _INT32), 8) for value in values[4:])
        store_vector(
            builder,
            builder.add(builder.mul(wide, scale), base),
            pointer_to(context, builder, signature, values, 0),
        )
        return context.get_dummy_value()

    return types.void(
        listed, types.intp, positions, types.intp, types.intp, types.intp
    ), build  # fmt: skip


@intrinsic
def copy_moved(context, target, to, source, at, shift):  # type: ignore[no-untyped-def]
    """``target[to : to + 16] = source[at : at + 16] + shift``, 32 bits each."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        numbers = load_vector(
            builder, pointer_to(context, builder, signature, values, 2), _INT32, 16
        )
        shift = everywhere(builder, builder.trunc(values[4], _INT32), 16)
        moved = builder.add(numbers, shift)
        store_vector(builder, moved, pointer_to(context, builder, signature, values, 0))
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), build


@intrinsic(prefer_literal=True)
def add_listed(context, sums, to, signs, at, listed, first, fours, vectors, lanes):  # type: ignore[no-untyped-def]  # fmt: skip
    """``sums[to + o] += Σ_i signs[at + listed[first + i] + o]`` for ``4 · fours`` i.

    For ``vectors · lanes`` outputs o. Until the end all sums stay in registers, 8 bits each:
    the caller sees to it that they hold them.
    """
    vectors_of, lanes_of = vectors.literal_value, lanes.literal_value

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        target, signs, listed = (
            pointer_to(context, builder, signature, values, which) for which in (0, 2, 4)
        )
        intp = values[1].type
        narrow, wide = (ir.VectorType(of, lanes_of) for of in (_INT8, _INT32))
        zero = ir.Constant(narrow, [0] * lanes_of)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(vectors_of)]
        with cgutils.for_range(builder, values[6]) as loop:
            four = builder.gep(listed, [builder.mul(loop.index, intp(4))])
            for i in range(4):
                offset = builder.sext(builder.load(builder.gep(four, [intp(i)])), intp)
                row = builder.gep(signs, [offset])
                for v, total in enumerate(totals):
                    part = builder.gep(row, [intp(v * lanes_of)])
                    more = load_vector(builder, part, _INT8, lanes_of)
                    builder.store(builder.add(builder.load(total), more), total)
        for v, total in enumerate(totals):
            part = builder.gep(target, [intp(v * lanes_of)])
            found = builder.sext(builder.load(total), wide)
            before = load_vector(builder, part, _INT32, lanes_of)
            store_vector(builder, builder.add(before, found), part)
        return context.get_dummy_value()

    signature = types.void(
        sums, types.intp, signs, types.intp, listed, types.intp, types.intp, vectors, lanes
    )
    return signature, build


@intrinsic
def add_scaled(context, sums, to, signs, at, value):  # type: ignore[no-untyped-def]
    """``sums[to + o] += value · signs[at + o]`` for 16 outputs o, in 32 bits."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        target, source = (pointer_to(context, builder, signature, values, i) for i in (0, 2))
        weights = builder.sext(load_vector(builder, source, _INT8, 16), ir.VectorType(_INT32, 16))
        scale = everywhere(builder, builder.trunc(values[4], _INT32), 16)
        before = load_vector(builder, target, _INT32, 16)
        store_vector(builder, builder.add(before, builder.mul(weights, scale)), target)
        return context.get_dummy_value()

    return types.void(sums, types.intp, signs, types.intp, types.intp), build


@intrinsic(prefer_literal=True)
def add_counted(context, sums, to, bits, at, units, first, words, stride, ones, vectors):  # type: ignore[no-untyped-def]  # fmt: skip
    """``sums[to + o] += 2 · ones of (spikes & weights of o) − ones``, for ``16 · vectors`` outputs.

    Spikes are ``words`` words of two units from ``units[first]`` on; weights of a word begin at
    ``bits[at]``, ``stride`` apart.
    """
    vectors_of = vectors.literal_value

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        target, bits, units = (
            pointer_to(context, builder, signature, values, which) for which in (0, 2, 4)
        )
        intp = values[1].type
        vector = ir.VectorType(_INT32, 16)
        count = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), "llvm.ctpop.v16i32"
        )
        spikes = builder.bitcast(units, _INT32.as_pointer())
        zero = ir.Constant(vector, [0] * 16)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(vectors_of)]
        with cgutils.for_range(builder, values[6]) as loop:
            word = builder.load(builder.gep(spikes, [loop.index]))
            word.align = 1
            word = everywhere(builder, word, 16)
            row = builder.gep(bits, [builder.mul(loop.index, values[7])])
            for v, total in enumerate(totals):
                weights = load_vector(builder, builder.gep(row, [intp(16 * v)]), _INT32, 16)
                common = builder.call(count, [builder.and_(word, weights)])
                builder.store(builder.add(builder.load(total), common), total)
        ones = everywhere(builder, builder.trunc(values[8], _INT32), 16)
        for v, total in enumerate(totals):
            part, found = builder.gep(target, [intp(16 * v)]), builder.load(total)
            twice = builder.sub(builder.add(found, found), ones)
            store_vector(builder, builder.add(load_vector(builder, part, _INT32, 16), twice), part)
        return context.get_dummy_value()

    signature = types.void(
        sums, types.intp, bits, types.intp, units, types.intp, types.intp, types.intp, types.intp,
        vectors,
    )  # fmt: skip
    return signature, build
