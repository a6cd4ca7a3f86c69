"""The loops of :mod:`bsnn_tha.kernels.cpu.sparse_lif`: through a window of sparse events, and back.

Both take blocks of neurons. What is fixed for a layer is a constant in them; None is compiled away.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils

from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import intrinsic
from bsnn_tha.kernels.cpu.dropout import hashed, row_bits
from bsnn_tha.kernels.cpu.lif_step import (
    SURROGATES,
    WINDOWS,
    fires,
    from_threshold,
    from_threshold_by_reset,
    integrate,
    to_before,
    to_membrane,
)
from bsnn_tha.kernels.cpu.memory import REALS
from bsnn_tha.kernels.tuning import SPARSE_LIF_BLOCK as BLOCK


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
def _add_to_threshold(g_theta, membranes, before, arriving, carry, theta, peak, narrowness, height, curve, window, fired_only, subtract):  # type: ignore[no-untyped-def]  # fmt: skip # noqa: E501
    """What a step takes from θ: before :func:`_step_back`, which overwrites what it reads."""
    for i in range(BLOCK):
        u = membranes[i]
        through = to_membrane(arriving[i], u, peak[i], narrowness, height, curve)
        taken = from_threshold(through, u, theta[i], window, fired_only)
        if subtract:
            taken += from_threshold_by_reset(carry[i] + through, before[i], theta[i])
        g_theta[i] -= taken


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


def forward_scan(
    reset: Reset, masked: bool, dtype: torch.dtype, spikes_dtype: torch.dtype
) -> Callable[..., None]:
    """The forward scan; the dtype of the spikes is for `run`, which compiles one for each."""
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


def backward_scan(
    surrogate: str,
    path: ThresholdGradient,
    reset: Reset,
    masked: bool,
    dtype: torch.dtype,
    g_dtype: torch.dtype,
    written: torch.dtype | None,
) -> Callable[..., None]:
    """The backward scan around a curve of :mod:`bsnn_tha.kernels.curves`.

    The dtypes of gradients that come and that are ``written`` are for `run` as well.
    """
    subtract, zero = reset == "subtract", reset == "zero"
    curve, penalty, fired_only = SURROGATES[surrogate], WINDOWS[path.window], path.fired_only
    real = REALS[dtype]

    def scan(  # type: ignore[no-untyped-def]
        starts, columns, offsets, times, signs, bias, beta, threshold, seed, limit, scale,
        centre, narrowness, height, start, g_spikes, carried,
        g_weight, g_bias, g_threshold, g_current, steps, batch, outputs, inputs, first, last,
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
            if g_threshold is not None:
                g_theta = g_threshold[column : column + BLOCK]
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
                    before = window[t - 1] if t > 0 else initial
                    if g_threshold is not None:
                        _add_to_threshold(
                            g_theta, window[t], before, arriving, carry, theta, peak,
                            narrowness, height, curve, penalty, fired_only, subtract,
                        )  # fmt: skip
                    _step_back(
                        window[t], before, arriving, carry, g_added,
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
