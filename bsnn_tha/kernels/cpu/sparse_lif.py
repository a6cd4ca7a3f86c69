"""Product, dropout and neurons in one pass over sparse events, compiled by numba.

What is long in a layer of many neurons on few spikes is to write the current,
the mask, the dropped current and the membranes to memory and to read them
again. Here none of them is ever written. Neurons are taken in blocks, samples
one at a time. Forward, a block's current at a time step is a sum of rows of the
transposed signs, bytes in the second-level cache, added up as whole numbers of
16 bits; it goes straight into the membranes, which stay in the first-level
cache; only the spikes leave it.

Backward, a block's membranes of the whole window are computed again, which is
faster than to read them back from memory, into a buffer that the scan back
through time overwrites with the current's gradient. The block's part of the
weights' gradient is summed from there.

Operations on membranes are those of :mod:`bsnn_tha.kernels.cpu.lif`, in the
same order: the same bits. Every gradient is a sum in an order that depends
neither on the number of threads nor on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from torch import Tensor

from bsnn_tha.equations.dropout import limit
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import Reset
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import intrinsic, run
from bsnn_tha.kernels.cpu.dropout import hashed, row_bits, scale
from bsnn_tha.kernels.cpu.events import Events, events_of
from bsnn_tha.kernels.cpu.lif_step import SURROGATES, fires, integrate, to_before, to_membrane
from bsnn_tha.kernels.cpu.memory import REALS, memory_of
from bsnn_tha.kernels.curves import curve_of
from bsnn_tha.kernels.tuning import SPARSE_LIF_BLOCK as BLOCK

# Spikes of a sample in one step whose sum of ±1 fits 16 bits.
_MOST_IN_A_STEP = (1 << 15) - 1


def listed(input: Tensor, most: int) -> Events | None:
    """The spikes of a window as the scans read them; None if there are more, or other values."""
    return events_of(input, most, _MOST_IN_A_STEP)


def signs_of(weight: Tensor) -> Tensor | None:
    """Weights of ±1 (or 0) as the scans read them, ``[blocks, in, BLOCK]``; None for others."""
    outputs, inputs = weight.shape
    blocks = -(-outputs // BLOCK)
    signs = np.zeros(blocks * inputs * BLOCK, np.int8)
    others = np.zeros(blocks, np.bool_)
    arguments = weight.detach().contiguous().view(-1).numpy(), outputs, inputs, signs, others
    run(_signs_loop, (weight.dtype,), arguments, blocks, weight.numel() // tuning.SPARSE_LIF_THREAD)
    return None if others.any() else torch.from_numpy(signs).view(blocks, inputs, BLOCK)


class Mask(NamedTuple):
    """Of dropout, between the product and the neurons."""

    probability: float
    seed: int


def forward(
    events: Events,
    signs: Tensor,
    bias: Tensor | None,
    mask: Mask,
    dynamics: Dynamics,
    start: Tensor,
    spikes: Tensor,
) -> Tensor:
    """Writes the spikes, ``[time, batch, out]``; the last membrane."""
    steps, batch, outputs = spikes.shape
    last = start.detach().clone(memory_format=torch.contiguous_format)
    blocks = len(signs)
    run(
        _forward_scan,
        (dynamics.reset, mask.probability > 0, start.dtype, spikes.dtype),
        (
            events.starts.numpy(),
            events.columns.numpy(),
            signs.view(-1).numpy(),
            *_of_neurons((bias, dynamics.beta, dynamics.threshold), blocks, start.dtype),
            *_of_mask(mask, start.dtype),
            last.view(-1).numpy(),
            memory_of(spikes),
            steps,
            batch,
            outputs,
            signs.shape[1],
        ),
        -(-blocks // tuning.SPARSE_LIF_TOGETHER) * batch,
        steps * batch * outputs // tuning.SPARSE_LIF_THREAD,
    )
    return last


def backward(
    events: Events,
    signs: Tensor,
    bias: Tensor | None,
    mask: Mask,
    dynamics: Dynamics,
    start: Tensor,
    g_spikes: Tensor | None,
    g_last: Tensor | None,
    steps: int,
    g_current: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the weight, the bias and ``start``.

    Writes that of the product of weight and input, ``[time, batch, out]``, if there is where to.
    """
    batch, outputs = start.shape
    blocks, inputs = signs.shape[:2]
    dtype = start.dtype
    real, curve = REALS[dtype], curve_of(dynamics.surrogate)
    g_weight = start.new_zeros(outputs, inputs)
    g_bias = start.new_zeros(blocks * BLOCK)
    carried = start.new_zeros(batch, outputs)
    if g_last is not None:
        carried.copy_(g_last)
    offsets = np.zeros(batch * (inputs + 1), np.int64)
    times = np.empty(len(events.columns), np.int32)
    starts, columns = events.starts.numpy(), events.columns.numpy()
    run(_sort_loop, (), (starts, columns, steps, batch, inputs, offsets, times), batch, 1)
    g_dtype = dtype if g_spikes is None else g_spikes.dtype
    written = None if g_current is None else g_current.dtype
    run(
        _backward_scan,
        (curve.name, dynamics.reset, mask.probability > 0, dtype, g_dtype, written),
        (
            starts,
            columns,
            offsets,
            times,
            signs.view(-1).numpy(),
            *_of_neurons((bias, dynamics.beta, dynamics.threshold), blocks, dtype),
            *_of_mask(mask, dtype),
            *_of_neurons((dynamics.centre,), blocks, dtype),
            real(curve.narrowness),
            real(curve.height),
            start.detach().contiguous().view(-1).numpy(),
            None if g_spikes is None else memory_of(g_spikes.detach().contiguous()),
            carried.view(-1).numpy(),
            g_weight.view(-1).numpy(),
            g_bias.numpy(),
            None if g_current is None else memory_of(g_current),
            steps,
            batch,
            outputs,
            inputs,
        ),
        blocks,
        steps * batch * outputs // tuning.SPARSE_LIF_THREAD,
    )
    return g_weight, g_bias[:outputs].clone(), carried


def _of_neurons(tensors: Iterable[Tensor | None], blocks: int, dtype: torch.dtype) -> Iterator[Any]:
    """One value for each neuron, zero for those that only fill the last block."""
    for tensor in tensors:
        values = np.zeros(blocks * BLOCK, REALS[dtype])
        if tensor is not None:
            given = tensor.detach().to(dtype).reshape(-1)
            values[: len(values) if len(given) == 1 else len(given)] = given.numpy()
        yield values


def _of_mask(mask: Mask, dtype: torch.dtype) -> tuple[Any, ...]:
    """The mask's numbers, for the scans."""
    return mask.seed, np.uint32(limit(mask.probability)), scale(mask.probability, dtype)


# Loops over the input and the weights.


def _sort_loop() -> Callable[..., None]:
    """For each sample its spikes by input: ``times`` from ``offsets[i]`` to ``offsets[i + 1]``."""

    def loop(starts, columns, steps, batch, inputs, offsets, times, first, last):  # type: ignore[no-untyped-def]
        for sample in range(batch):
            # Where the sample's spikes start: behind those of the samples before.
            begin = 0 if sample == 0 else offsets[sample * (inputs + 1) - 1]
            at = offsets[sample * (inputs + 1) : (sample + 1) * (inputs + 1)]
            for t in range(steps):
                row = t * batch + sample
                for k in range(starts[row], starts[row + 1]):
                    at[columns[k] + 1] += 1
            at[0] = begin
            for i in range(inputs):
                at[i + 1] += at[i]
            free = at.copy()
            for t in range(steps):
                row = t * batch + sample
                for k in range(starts[row], starts[row + 1]):
                    times[free[columns[k]]] = t
                    free[columns[k]] += 1

    return loop


def _signs_loop(dtype: torch.dtype) -> Callable[..., None]:
    one, nothing = REALS[dtype](1), REALS[dtype](0)
    tile = 64

    def loop(weight, outputs, inputs, signs, others, first, last):  # type: ignore[no-untyped-def]
        narrow = np.empty((tile, tile), np.int8)
        for block in range(first, last):
            at = block * BLOCK
            wrong = 0
            for top in range(at, min(at + BLOCK, outputs), tile):
                height = min(tile, outputs - top)
                for left in range(0, inputs, tile):
                    width = min(tile, inputs - left)
                    for i in range(height):
                        of = (top + i) * inputs + left
                        row, bytes = weight[of : of + width], narrow[i]
                        for j in range(width):
                            value = row[j]
                            wrong += not ((abs(value) == one) | (value == nothing))
                            bytes[j] = np.int8(value)
                    for j in range(width):
                        of = (block * inputs + left + j) * BLOCK + top - at
                        column = signs[of : of + height]
                        for i in range(height):
                            column[i] = narrow[i, j]
            others[block] = wrong > 0

    return loop


# The scans.


@intrinsic
def _fetch(context, array, at):  # type: ignore[no-untyped-def]
    """Ask for an array's element to be brought into the cache."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, values[0])
        i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        fetch = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32]),
            "llvm.prefetch.p0",
        )
        pointer = builder.bitcast(builder.gep(array.data, [values[1]]), byte)
        builder.call(fetch, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), build


@numba.njit(nogil=True)
def _prefetch(array, at, size):  # type: ignore[no-untyped-def]
    """Ask for a run of an array, a cache line at a time."""
    for i in range(at, at + size, 64 // array.itemsize):
        _fetch(array, i)


@numba.njit(nogil=True, error_model="numpy")
def _sum_signs(sums, signs, columns, begin, end):  # type: ignore[no-untyped-def]
    """A block's sums of the rows of the inputs that spike."""
    for i in range(BLOCK):
        sums[i] = 0
    k = begin
    # Four inputs each time the sums are read and written.
    while k + 4 <= end:
        of = columns[k] * BLOCK
        signs0 = signs[of : of + BLOCK]
        of = columns[k + 1] * BLOCK
        signs1 = signs[of : of + BLOCK]
        of = columns[k + 2] * BLOCK
        signs2 = signs[of : of + BLOCK]
        of = columns[k + 3] * BLOCK
        signs3 = signs[of : of + BLOCK]
        for i in range(BLOCK):
            four = np.int8(np.int8(signs0[i] + signs1[i]) + np.int8(signs2[i] + signs3[i]))
            sums[i] = np.int16(sums[i] + four)
        k += 4
    while k < end:
        of = columns[k] * BLOCK
        signs0 = signs[of : of + BLOCK]
        for i in range(BLOCK):
            sums[i] = np.int16(sums[i] + signs0[i])
        k += 1


@numba.njit(nogil=True, error_model="numpy")
def _step(sums, bias, decay, theta, low, high, column, limit, scale, before, after, masked, subtract, zero):  # type: ignore[no-untyped-def]  # fmt: skip # noqa: E501
    """Membranes of a block one time step later."""
    nothing = bias.dtype.type(0)
    for i in range(BLOCK):
        current = bias.dtype.type(sums[i]) + bias[i]
        if masked:
            current *= nothing if hashed(low, high, column + i) < limit else scale
        after[i] = integrate(before[i], current, decay[i], theta[i], subtract, zero)


@numba.njit(nogil=True, error_model="numpy")
def _step_back(membranes, before, arriving, carry, g_bias, decay, theta, peak, narrowness, height, low, high, column, limit, scale, curve, masked, zero):  # type: ignore[no-untyped-def]  # fmt: skip # noqa: E501
    """Gradient of a step's current, in place of its membranes."""
    nothing = decay.dtype.type(0)
    for i in range(BLOCK):
        g = carry[i] + to_membrane(arriving[i], membranes[i], peak[i], narrowness, height, curve)
        carry[i] = to_before(g, before[i], decay[i], theta[i], zero)
        membranes[i] = g
    # A loop of its own: one of more arrays is not vectorized.
    for i in range(BLOCK):
        g = membranes[i]
        if masked:
            g *= nothing if hashed(low, high, column + i) < limit else scale
            membranes[i] = g
        g_bias[i] += g


def _forward_scan(
    reset: Reset, masked: bool, dtype: torch.dtype, spikes_dtype: torch.dtype
) -> Callable[..., None]:
    subtract, zero = reset == "subtract", reset == "zero"
    real = REALS[dtype]

    def scan(  # type: ignore[no-untyped-def]
        starts, columns, signs, bias, beta, threshold, seed, limit, scale,
        state, spikes, steps, batch, outputs, inputs, first, last,
    ):  # fmt: skip
        sums = np.empty(BLOCK, np.int16)
        membranes = np.zeros((2, tuning.SPARSE_LIF_TOGETHER, BLOCK), real)
        for index in range(first, last):
            # Neighbours share their weights.
            begin, sample = index // batch * tuning.SPARSE_LIF_TOGETHER, index % batch
            end = min(begin + tuning.SPARSE_LIF_TOGETHER, -(-outputs // BLOCK))
            initial = state[sample * outputs : (sample + 1) * outputs]
            for block in range(begin, end):
                column = block * BLOCK
                size = min(BLOCK, outputs - column)
                membranes[0, block - begin, :size] = initial[column : column + size]
            for t in range(steps):
                row = t * batch + sample
                low, high = row_bits(seed, row)
                for block in range(begin, end):
                    column = block * BLOCK
                    size = min(BLOCK, outputs - column)
                    rows = signs[column * inputs : (column + BLOCK) * inputs]
                    theta = threshold[column : column + BLOCK]
                    after = membranes[(t + 1) & 1, block - begin]
                    _sum_signs(sums, rows, columns, starts[row], starts[row + 1])
                    _step(
                        sums, bias[column : column + BLOCK], beta[column : column + BLOCK], theta,
                        low, high, column, limit, scale,
                        membranes[t & 1, block - begin], after, masked, subtract, zero,
                    )  # fmt: skip
                    at = row * outputs + column
                    fired = spikes[at : at + size]
                    for i in range(size):
                        fired[i] = narrowed(fires(after[i], theta[i]), spikes)
            for block in range(begin, end):
                column = block * BLOCK
                size = min(BLOCK, outputs - column)
                initial[column : column + size] = membranes[steps & 1, block - begin, :size]

    return scan


def _backward_scan(
    surrogate: str,
    reset: Reset,
    masked: bool,
    dtype: torch.dtype,
    g_dtype: torch.dtype,
    written: torch.dtype | None,
) -> Callable[..., None]:
    subtract, zero = reset == "subtract", reset == "zero"
    curve = SURROGATES[surrogate]
    real = REALS[dtype]

    def scan(  # type: ignore[no-untyped-def]
        starts, columns, offsets, times, signs, bias, beta, threshold, seed, limit, scale,
        centre, narrowness, height, start, g_spikes, carried, g_weight, g_bias, g_current,
        steps, batch, outputs, inputs, first, last,
    ):  # fmt: skip
        sums = np.empty(BLOCK, np.int16)
        initial, carry = np.zeros(BLOCK, real), np.zeros(BLOCK, real)
        arriving = np.zeros(BLOCK, real)
        # Membranes; from the end on, the current's gradient instead.
        window = np.empty((steps, BLOCK), real)
        transposed = np.empty((inputs, BLOCK), real)
        for block in range(first, last):
            column = block * BLOCK
            size = min(BLOCK, outputs - column)
            rows = signs[column * inputs : (column + BLOCK) * inputs]
            added, decay = bias[column : column + BLOCK], beta[column : column + BLOCK]
            theta, peak = threshold[column : column + BLOCK], centre[column : column + BLOCK]
            g_added = g_bias[column : column + BLOCK]
            transposed[:] = 0
            for sample in range(batch):
                at = sample * outputs + column
                initial[:size] = start[at : at + size]
                for t in range(steps):
                    row = t * batch + sample
                    low, high = row_bits(seed, row)
                    _sum_signs(sums, rows, columns, starts[row], starts[row + 1])
                    _step(
                        sums, added, decay, theta, low, high, column, limit, scale,
                        window[t - 1] if t > 0 else initial, window[t], masked, subtract, zero,
                    )  # fmt: skip
                carry[:size] = carried[at : at + size]
                for t in range(steps - 1, -1, -1):
                    row = t * batch + sample
                    low, high = row_bits(seed, row)
                    if g_spikes is not None:
                        of = max(row - tuning.SPARSE_LIF_AHEAD * batch, 0) * outputs + column
                        _prefetch(g_spikes, of, size)
                        of = row * outputs + column
                        upstream = g_spikes[of : of + size]
                        for i in range(size):
                            arriving[i] = widened(upstream[i])
                    _step_back(
                        window[t], window[t - 1] if t > 0 else initial, arriving, carry, g_added,
                        decay, theta, peak, narrowness, height, low, high, column, limit, scale,
                        curve, masked, zero,
                    )  # fmt: skip
                    if g_current is not None:
                        of = row * outputs + column
                        source, target = window[t], g_current[of : of + size]
                        for i in range(size):
                            target[i] = narrowed(source[i], g_current)
                carried[at : at + size] = carry[:size]
                at = sample * (inputs + 1)
                for j in range(inputs):
                    target = transposed[j]
                    k, end = offsets[at + j], offsets[at + j + 1]
                    while k + 4 <= end:
                        g0, g1 = window[times[k]], window[times[k + 1]]
                        g2, g3 = window[times[k + 2]], window[times[k + 3]]
                        for i in range(BLOCK):
                            target[i] += (g0[i] + g1[i]) + (g2[i] + g3[i])
                        k += 4
                    while k < end:
                        g0 = window[times[k]]
                        for i in range(BLOCK):
                            target[i] += g0[i]
                        k += 1
            for i in range(size):
                target = g_weight[(column + i) * inputs : (column + i + 1) * inputs]
                for j in range(inputs):
                    target[j] = transposed[j, i]

    return scan
