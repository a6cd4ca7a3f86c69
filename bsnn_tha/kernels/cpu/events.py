"""The spikes of a window as lists, for loops to which a zero costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import widened
from bsnn_tha.kernels.cpu.compiled import intrinsic, run

# Inputs that are compared with zero at once.
_GROUP = 64
# Spikes of an input in one step beyond which a window is left to others.
_MOST_SPIKES = np.float32(100)


class Events(NamedTuple):
    """Spikes of a window ``[time, batch, in]``, as a list for each time step and sample."""

    starts: Tensor
    """Where the list of row ``t · batch + b`` starts, int64 ``[time · batch + 1]``."""
    columns: Tensor
    """Which inputs spike, int32; one that spikes twice is there twice."""


def events_of(input: Tensor, most: int, most_in_a_row: int) -> Events | None:
    """The spikes of a window; None if there are more, or it holds other values than 0, 1, 2 ...

    Args:
        input: ``[time, batch, in]``; float32, float64 or bfloat16.
        most: spikes in all.
        most_in_a_row: spikes of a sample in one step.
    """
    steps, batch, width = input.shape
    rows, groups = steps * batch, -(-width // _GROUP)
    flat = input.detach().contiguous().view(-1)
    values = (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()
    starts = np.zeros(rows + 1, np.int64)
    masks, plain = np.empty(rows * groups, np.uint64), np.empty(rows, np.bool_)
    threads = input.numel() // tuning.EVENTS_THREAD
    run(_count_loop, (input.dtype,), (values, width, masks, plain, starts), rows, threads)
    # A row with other values has a negative count.
    if starts.min() < 0 or starts.max() > most_in_a_row or starts.sum() > most:
        return None
    np.cumsum(starts, out=starts)
    columns = np.empty(starts[-1], np.int32)
    run(_list_loop, (input.dtype,), (values, width, masks, plain, starts, columns), rows, threads)
    return Events(torch.from_numpy(starts), torch.from_numpy(columns))


@intrinsic(prefer_literal=True)
def _bits_other_than(context, array, at, one):  # type: ignore[no-untyped-def]
    """Which of 64 values from an array's position on are not 0, or not ``one`` (a flag).

    A vector of them is compared at once, which numba has no words for.
    """
    against_one = one.literal_value

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        dtype = signature.args[0].dtype
        array = context.make_array(signature.args[0])(context, builder, values[0])
        vector = ir.VectorType(context.get_data_type(dtype), _GROUP)
        pointer = builder.bitcast(builder.gep(array.data, [values[1]]), vector.as_pointer())
        group = builder.load(pointer)
        group.align = dtype.bitwidth // 8
        floats = isinstance(dtype, types.Float)
        number = (1.0 if floats else 0x3F80) if against_one else 0
        constant = ir.Constant(vector, [number] * _GROUP)
        # NaN is not zero either.
        compare = builder.fcmp_unordered if floats else builder.icmp_unsigned
        return builder.bitcast(compare("!=", group, constant), ir.IntType(_GROUP))

    return types.uint64(array, types.intp, one), build


@intrinsic
def _lowest_bit(context, bits):  # type: ignore[no-untyped-def]
    """The position of the lowest bit that is set."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), build


@intrinsic
def _bits_set(context, bits):  # type: ignore[no-untyped-def]
    """How many bits are set."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.ctpop(values[0])

    return types.intp(types.uint64), build


@numba.njit(nogil=True)
def _count(value):  # type: ignore[no-untyped-def]
    """How many spikes a value is, or −1."""
    value = widened(value)
    if not (value >= 0 and value <= _MOST_SPIKES and np.floor(value) == value):
        return -1
    return np.int64(value)


# The loops. The dtype is for `run`, which compiles one for each.


def _count_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(values, width, masks, plain, starts, first, last):  # type: ignore[no-untyped-def]
        groups = -(-width // _GROUP)
        for row in range(first, last):
            spikes, all_are_one = 0, True
            for group in range(groups):
                at = row * width + group * _GROUP
                size = min(_GROUP, width - group * _GROUP)
                if size == _GROUP:
                    bits = _bits_other_than(values, at, False)
                    others = bits & _bits_other_than(values, at, True) if bits else bits
                else:
                    bits = others = np.uint64(0)
                    for i in range(size):
                        value, bit = widened(values[at + i]), np.uint64(1) << np.uint64(i)
                        bits |= bit if value != 0 else np.uint64(0)
                        others |= bit if value != 0 and value != 1 else np.uint64(0)
                masks[row * groups + group] = bits
                if others == 0:
                    spikes += _bits_set(bits)
                    continue
                all_are_one = False
                for i in range(size):
                    count = _count(values[at + i])
                    if count < 0:
                        spikes = -1
                        break
                    spikes += count
                if spikes < 0:
                    break
            plain[row] = all_are_one
            starts[row + 1] = spikes

    return loop


def _list_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(values, width, masks, plain, starts, columns, first, last):  # type: ignore[no-untyped-def]
        groups = -(-width // _GROUP)
        for row in range(first, last):
            listed = starts[row]
            for group in range(groups):
                bits = masks[row * groups + group]
                while bits != 0:
                    i = group * _GROUP + _lowest_bit(bits)
                    bits &= bits - np.uint64(1)
                    count = 1 if plain[row] else _count(values[row * width + i])
                    for _ in range(count):
                        columns[listed] = i
                        listed += 1

    return loop
