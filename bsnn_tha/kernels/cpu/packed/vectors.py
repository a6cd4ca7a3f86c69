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
from numba.core.registry import cpu_target
from numba.extending import intrinsic as _intrinsic

# Typed by numba without the compiler's own first argument, which callers do not give.
intrinsic: Any = _intrinsic

_INT8, _INT32 = ir.IntType(8), ir.IntType(32)
_MASK = ir.VectorType(ir.IntType(1), 16)

# What numba compiles for, by which it also keeps what it has compiled: its settings may say
# another processor than this one (NUMBA_CPU_NAME, NUMBA_ENABLE_AVX).
_, _, _features = cpu_target.target_context.codegen().magic_tuple()

PUSHES = "+avx512f" in _features.split(",")
"""Whether the processor pushes the lanes of a mask together, and has 32 vectors of 64 bytes."""


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
def list_unit(context, listed, to, positions, unit, scale, base):  # type: ignore[no-untyped-def]
    """``listed[to + i] = base + scale · p_i`` for the positions p of a unit's ones.

    Writes 16 numbers, of which as many count as there are ones. Processors that can push lanes
    together do so; for others ``positions`` has those of each byte, eight numbers for each.
    """

    def pushed(builder: Any, unit: Any, scale: Any, base: Any, to: Any) -> None:
        vector = ir.VectorType(_INT32, 16)
        where = ir.Constant(vector, list(range(16)))
        numbers = builder.mul(where, everywhere(builder, scale, 16))
        numbers = builder.add(numbers, everywhere(builder, base, 16))
        bits = builder.bitcast(builder.trunc(unit, ir.IntType(16)), _MASK)
        compress = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector, _MASK, vector]),
            "llvm.experimental.vector.compress.v16i32",
        )
        undefined = ir.Constant(vector, ir.Undefined)
        store_vector(builder, builder.call(compress, [numbers, bits, undefined]), to)

    def looked_up(builder: Any, positions: Any, byte: Any, scale: Any, base: Any, to: Any) -> None:
        row = builder.gep(positions, [builder.mul(byte, byte.type(8))])
        numbers = builder.zext(load_vector(builder, row, _INT8, 8), ir.VectorType(_INT32, 8))
        numbers = builder.mul(numbers, everywhere(builder, scale, 8))
        store_vector(builder, builder.add(numbers, everywhere(builder, base, 8)), to)

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        to = pointer_to(context, builder, signature, values, 0)
        unit, intp = values[3], values[1].type
        scale, base = (builder.trunc(value, _INT32) for value in values[4:])
        if PUSHES:
            pushed(builder, unit, scale, base, to)
            return context.get_dummy_value()
        positions = context.make_array(signature.args[2])(context, builder, values[2]).data
        low = builder.and_(unit, intp(255))
        looked_up(builder, positions, low, scale, base, to)
        to = builder.gep(to, [builder.ctpop(low)])
        base = builder.add(base, builder.mul(scale, _INT32(8)))
        looked_up(builder, positions, builder.lshr(unit, intp(8)), scale, base, to)
        return context.get_dummy_value()

    return types.void(
        listed, types.intp, positions, types.int64, types.intp, types.intp
    ), build  # fmt: skip


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
