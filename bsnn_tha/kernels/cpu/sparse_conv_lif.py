"""Convolution, pooling and neurons in one pass over sparse events, compiled by numba.

The maps of one sample at one time step fit the first-level cache: the current is summed there
spike by spike, as whole numbers of 16 bits (pooled signs times pool²), goes into
the membranes, and only spikes are written to memory.

Backward, a sample's membranes are computed again, into a buffer that the scan back
through time overwrites with the current's gradient, spike by spike added to the weights' gradient;
a learned θ's is summed for each neuron.

Operations on membranes are those of :mod:`bsnn_tha.kernels.cpu.lif`, in the
same order: the same bits. Every gradient is a sum in an order that does not depend on
the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.events import Events
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
from bsnn_tha.kernels.cpu.memory import REALS, memory_of
from bsnn_tha.kernels.cpu.per_neuron import number_or_each, summed_over_samples
from bsnn_tha.kernels.cpu.sparse_conv import (
    Geometry,
    Taps,
    add_taps,
    from_margins,
    into_margins,
    unpooled,
)
from bsnn_tha.kernels.curves import curve_of


def forward(
    events: Events,
    weights: Tensor,
    geometry: Geometry,
    taps: Taps,
    dynamics: Dynamics,
    start: Tensor,
    spikes: Tensor,
) -> Tensor:
    """Writes the spikes, ``[time, batch, rows, columns, out]``; the last membrane.

    ``start`` and what is returned are ``[batch, rows, columns, out]``; θ and the centre are numbers
    or ``[rows, columns, out]``, in the dtype of ``start``.
    """
    last = start.detach().clone(memory_format=torch.contiguous_format)
    run(
        _forward_scan,
        (geometry.lanes, geometry.reach, dynamics.reset, start.dtype, spikes.dtype),
        (
            events.starts.numpy(),
            events.columns.numpy(),
            taps,
            weights.view(-1).numpy(),
            *_numbers(start.dtype, dynamics.beta, geometry.unit),
            *number_or_each(dynamics.threshold, dynamics.threshold.numel()),
            last.view(-1).numpy(),
            memory_of(spikes),
            *spikes.shape,
            geometry.line,
            geometry.area,
        ),
        geometry.blocks * len(start),
        spikes.numel() // tuning.CONV_THREAD,
    )
    return last


def backward(
    events: Events,
    weights: Tensor,
    geometry: Geometry,
    taps: Taps,
    dynamics: Dynamics,
    start: Tensor,
    g_spikes: Tensor,
    g_last: Tensor | None,
    with_current: bool,
    learn_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of the weight, of ``start``, of the current (empty unless asked for), and of θ.

    All but the weight's are laid out as the spikes. θ's is None unless it is learned.
    """
    batch, dtype, curve = len(start), start.dtype, curve_of(dynamics.surrogate)
    carried = torch.zeros_like(start, memory_format=torch.contiguous_format)
    if g_last is not None:
        carried.copy_(g_last)
    parts = min(tuning.CONV_PARTS, batch)
    g_weights = start.new_zeros(geometry.blocks, parts, *weights.shape[1:])
    g_threshold = start.new_zeros(parts, *start.shape[1:]) if learn_threshold else None
    # Without a learned threshold all are the same loop.
    path = dynamics.threshold_gradient if learn_threshold else SHARED
    g_current = g_spikes.new_empty(g_spikes.shape if with_current else 0)
    run(
        _backward_scan,
        (geometry.lanes, geometry.reach, curve.name, path, dynamics.reset, dtype, g_spikes.dtype,
         with_current),
        (
            events.starts.numpy(),
            events.columns.numpy(),
            taps,
            weights.view(-1).numpy(),
            *_numbers(dtype, dynamics.beta, geometry.unit),
            *number_or_each(dynamics.threshold, dynamics.threshold.numel()),
            *number_or_each(dynamics.centre, dynamics.centre.numel()),
            *_numbers(dtype, curve.narrowness, curve.height),
            start.detach().contiguous().view(-1).numpy(),
            memory_of(g_spikes),
            carried.view(-1).numpy(),
            g_weights.view(-1).numpy(),
            None if g_threshold is None else g_threshold.view(-1).numpy(),
            memory_of(g_current),
            *g_spikes.shape,
            geometry.line,
            geometry.area,
            parts,
        ),
        geometry.blocks * parts,
        g_spikes.numel() // tuning.CONV_THREAD,
    )  # fmt: skip
    if g_threshold is not None:
        g_threshold = summed_over_samples(g_threshold, dynamics.threshold)
    return unpooled(g_weights.sum(1), geometry), carried, g_current, g_threshold


def _numbers(dtype: torch.dtype, *numbers: Tensor | float) -> tuple[Any, ...]:
    """For the scans, in what they compute with."""
    return tuple(REALS[dtype](float(number)) for number in numbers)


# The scans.


@numba.njit(nogil=True, error_model="numpy")
def _step(sums, decay, theta, own, unit, before, after, subtract, zero):  # type: ignore[no-untyped-def]
    """Membranes one time step later; each neuron has its ``own`` θ, unless that is None."""
    real = type(decay)
    for i in range(len(sums)):
        if own is not None:
            theta = own[i]
        after[i] = integrate(before[i], real(sums[i]) * unit, decay, theta, subtract, zero)


def _forward_scan(
    lanes: int, reach: int, reset: Reset, dtype: torch.dtype, spikes_dtype: torch.dtype
) -> Callable[..., None]:
    subtract, zero = reset == "subtract", reset == "zero"
    real, span = REALS[dtype], reach * lanes

    def scan(  # type: ignore[no-untyped-def]
        starts, events, taps, weights, decay, unit, theta, thetas, state, spikes,
        steps, batch, rows, columns, outputs, line, area, first, last,
    ):  # fmt: skip
        size, places = area * lanes, rows * columns
        sums = np.empty(size, np.int16)
        membranes = np.zeros((2, size), real)
        own: Any = None if thetas is None else np.zeros(size, real)
        kernel = len(weights) // -(-outputs // lanes)
        for index in range(first, last):
            # Neighbours share their weights.
            block, sample = index // batch, index % batch
            channel = block * lanes
            these = weights[block * kernel : (block + 1) * kernel]
            width = min(lanes, outputs - channel)
            # A row at once, if all channels are.
            runs, length = (1, columns * lanes) if outputs == lanes else (columns, width)
            at = sample * places * outputs + channel
            into_margins(state, at, outputs, membranes[0], rows, columns, line, lanes, reach, width)
            if thetas is not None:
                into_margins(
                    thetas, channel, outputs, own, rows, columns, line, lanes, reach, width
                )
            for t in range(steps):
                now = t * batch + sample
                sums[:] = 0
                add_taps(sums, these, taps, events, starts[now], starts[now + 1], lanes, span, True)
                after = membranes[(t + 1) & 1]
                _step(sums, decay, theta, own, unit, membranes[t & 1], after, subtract, zero)
                for row in range(rows):
                    for column in range(runs):
                        of = (row * line + column + reach - 1) * lanes
                        to = (now * places + row * columns + column) * outputs + channel
                        read, fired = after[of : of + length], spikes[to : to + length]
                        if thetas is not None:
                            limits = own[of : of + length]
                        for i in range(length):
                            if thetas is not None:
                                theta = limits[i]
                            fired[i] = narrowed(fires(read[i], theta), spikes)
            from_margins(
                membranes[steps & 1], state, at, outputs, rows, columns, line, lanes, reach, width
            )

    return scan


def _backward_scan(
    lanes: int,
    reach: int,
    surrogate: str,
    path: ThresholdGradient,
    reset: Reset,
    dtype: torch.dtype,
    g_dtype: torch.dtype,
    with_current: bool,
) -> Callable[..., None]:
    subtract, zero = reset == "subtract", reset == "zero"
    curve, penalty, fired_only = SURROGATES[surrogate], WINDOWS[path.window], path.fired_only
    real, span = REALS[dtype], reach * lanes

    def scan(  # type: ignore[no-untyped-def]
        starts, events, taps, weights, decay, unit, theta, thetas, centre, centres,
        narrowness, height, start, g_spikes, carried, g_weights, g_threshold, g_current,
        steps, batch, rows, columns, outputs, line, area, parts, first, last,
    ):  # fmt: skip
        size, places = area * lanes, rows * columns
        sums = np.empty(size, np.int16)
        # What does not belong to a neuron, the margins, stays zero.
        initial, carry = np.zeros(size, real), np.zeros(size, real)
        arriving = np.zeros(size, real)
        own: Any = None if thetas is None else np.zeros(size, real)
        peaks: Any = None if centres is None else np.zeros(size, real)
        g_theta: Any = None if g_threshold is None else np.zeros(size, real)
        # Membranes; from the end on, the current's gradient instead.
        window = np.empty((steps, size), real)
        kernel = len(weights) // -(-outputs // lanes)
        for index in range(first, last):
            block, part = index // parts, index % parts
            channel = block * lanes
            these = weights[block * kernel : (block + 1) * kernel]
            g_these = g_weights[index * kernel : (index + 1) * kernel]
            width = min(lanes, outputs - channel)
            if thetas is not None:
                into_margins(
                    thetas, channel, outputs, own, rows, columns, line, lanes, reach, width
                )
            if centres is not None:
                into_margins(
                    centres, channel, outputs, peaks, rows, columns, line, lanes, reach, width
                )
            if g_threshold is not None:
                g_theta[:] = 0
            for sample in range(batch * part // parts, batch * (part + 1) // parts):
                of = sample * places * outputs + channel
                into_margins(start, of, outputs, initial, rows, columns, line, lanes, reach, width)
                into_margins(carried, of, outputs, carry, rows, columns, line, lanes, reach, width)
                for t in range(steps):
                    now = t * batch + sample
                    sums[:] = 0
                    add_taps(
                        sums, these, taps, events, starts[now], starts[now + 1], lanes, span, True
                    )
                    before = window[t - 1] if t > 0 else initial
                    _step(sums, decay, theta, own, unit, before, window[t], subtract, zero)
                for t in range(steps - 1, -1, -1):
                    now = t * batch + sample
                    at = now * places * outputs + channel
                    into_margins(
                        g_spikes, at, outputs, arriving, rows, columns, line, lanes, reach, width
                    )
                    gradient, before = window[t], window[t - 1] if t > 0 else initial
                    for i in range(size):
                        if thetas is not None:
                            theta = own[i]
                        if centres is not None:
                            centre = peaks[i]
                        u, g_z = gradient[i], arriving[i]
                        through = to_membrane(g_z, u, centre, narrowness, height, curve)
                        g = carry[i] + through
                        if g_threshold is not None:
                            g_theta[i] -= from_threshold(through, u, theta, penalty, fired_only)
                            if subtract:
                                g_theta[i] -= from_threshold_by_reset(g, before[i], theta)
                        gradient[i] = g
                        carry[i] = to_before(g, before[i], decay, theta, zero)
                    add_taps(
                        gradient, g_these, taps, events, starts[now], starts[now + 1],
                        lanes, span, False,
                    )  # fmt: skip
                    if with_current:
                        from_margins(
                            gradient, g_current, at, outputs,
                            rows, columns, line, lanes, reach, width,
                        )  # fmt: skip
                from_margins(carry, carried, of, outputs, rows, columns, line, lanes, reach, width)
            if g_threshold is not None:
                of = part * places * outputs + channel
                from_margins(
                    g_theta, g_threshold, of, outputs, rows, columns, line, lanes, reach, width
                )

    return scan
