"""Loops of :mod:`bsnn_tha.functional.norm_lif`, compiled by numba.

Neurons are taken in blocks, as in :mod:`bsnn_tha.kernels.cpu.lif`: a block of currents is
normalised, integrated and fires at all time steps while its membranes stay in the first-level
cache. Only spikes are written. Backward its membranes are computed again, and the scan back
through time leaves the gradient of the normalised current, and sums that of a learned θ for
each neuron; neurons are summed at the end, in an order that knows no threads.

Operations are those of :mod:`bsnn_tha.kernels.cpu.batch_norm` and then those of
:mod:`bsnn_tha.kernels.cpu.lif_step`, in the same order: the same bits. What is computed with,
float32 or float64, is the dtype of ``start``; currents may be whole numbers, int16, and spikes and
gradients bfloat16, which only what is written is rounded to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.batch_norm import normalised, normalised_as_library
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import run
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
from bsnn_tha.kernels.curves import curve_of


class Normalising(NamedTuple):
    """What currents are multiplied by, and what is added."""

    scale: Any
    """Of :func:`~bsnn_tha.kernels.cpu.batch_norm.scale_and_shift`: of every step or, one row, of
    all of them."""
    shift: Any
    """Likewise."""
    as_library: bool
    """Whether it is rounded as the library does by running statistics."""


def forward(
    input: Tensor,
    normalising: Normalising | None,
    dynamics: Dynamics,
    start: Tensor,
    steps: int,
    keep: bool,
    spike_dtype: torch.dtype,
    added: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes and, to keep, membranes ``[steps, neurons]``; the last membrane ``[neurons]``.

    Args:
        input: currents ``[steps, neurons]``, channels innermost; or ``[1, neurons]``, the same
            at each step.
        normalising: None for currents that are taken as they are.
        dynamics: its tensors in the dtype of ``start``: numbers; θ and the centre also one for
            each neuron of a sample, as they lie in memory.
        start: membranes before the first step, ``[neurons]``.
        steps: T.
        keep: whether membranes are wanted.
        spike_dtype: of the spikes.
        added: to the normalised currents, like them at each step, in the dtype of ``start`` or
            bfloat16; or None.
    """
    spikes = input.new_empty(steps, len(start), dtype=spike_dtype)
    membranes = start.new_empty(spikes.shape) if keep else None
    last, real = start.clone(), REALS[start.dtype]
    _run(
        _forward_scan,
        (dynamics.reset, start.dtype, input.dtype, spike_dtype, _dtype_of(added, start)),
        input,
        steps,
        normalising,
        None if added is None else memory_of(added),
        real(dynamics.beta.item()),
        *number_or_each(dynamics.threshold, len(start)),
        last.numpy(),
        memory_of(spikes),
        None if membranes is None else memory_of(membranes),
    )
    return spikes, membranes, last


def backward(
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    input: Tensor,
    normalising: Normalising | None,
    dynamics: Dynamics,
    start: Tensor,
    steps: int,
    learn_threshold: bool,
    g_dtype: torch.dtype,
    added: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of the normalised currents, like ``input``, of ``start``, and of θ, if learned.

    That of what was added to the currents is the currents'.

    Args:
        grads: that reach spikes (in the spikes' dtype), membranes and last membrane; None where
            none does.
        input, normalising, dynamics, start, steps, added: of the forward pass.
        learn_threshold: whether θ wants a gradient.
        g_dtype: of the currents' gradient.
    """
    g_spikes, g_membranes, g_last = grads
    curve, real = curve_of(dynamics.surrogate), REALS[start.dtype]
    g_current = torch.empty_like(input, dtype=g_dtype)
    carried = torch.zeros_like(start) if g_last is None else g_last.to(start.dtype).clone()
    g_threshold = torch.zeros_like(start) if learn_threshold else None
    # Without a learned threshold all are the same loop.
    path = dynamics.threshold_gradient if learn_threshold else SHARED
    # Without spikes' gradient their dtype says nothing.
    arriving = start.dtype if g_spikes is None else g_spikes.dtype
    _run(
        _backward_scan,
        (
            curve.name,
            path,
            dynamics.reset,
            start.dtype,
            input.dtype,
            arriving,
            g_dtype,
            _dtype_of(added, start),
        ),
        input,
        steps,
        normalising,
        None if added is None else memory_of(added),
        real(dynamics.beta.item()),
        *number_or_each(dynamics.threshold, len(start)),
        *number_or_each(dynamics.centre, len(start)),
        real(curve.narrowness),
        real(curve.height),
        start.numpy(),
        None if g_spikes is None else memory_of(g_spikes),
        None if g_membranes is None else memory_of(g_membranes),
        memory_of(g_current),
        carried.numpy(),
        None if g_threshold is None else g_threshold.numpy(),
    )
    if g_threshold is None:
        return g_current, carried, None
    return g_current, carried, summed_over_samples(g_threshold, dynamics.threshold)


def _dtype_of(added: Tensor | None, start: Tensor) -> torch.dtype:
    # What is not there has none.
    return start.dtype if added is None else added.dtype


def _run(
    make: Callable[..., Any],
    constants: tuple[Any, ...],
    input: Tensor,
    steps: int,
    normalising: Normalising | None,
    *arguments: Any,
) -> None:
    """Run a scan over all blocks."""
    seen, neurons = input.shape
    block = max(1, min(tuning.NORM_LIF_BLOCK, tuning.NORM_LIF_WINDOW // steps, neurons))
    scale = shift = None
    as_library = False
    if normalising is not None:
        scale, shift, as_library = normalising
        rounds = max(1, block // scale.shape[1])
        block = rounds * scale.shape[1]
        if len(scale) == 1:  # read in one go
            scale, shift = np.tile(scale, (1, rounds)), np.tile(shift, (1, rounds))
    run(
        make,
        (*constants, as_library),
        (
            memory_of(input), 0 if seen == 1 else neurons, scale, shift, *arguments,
            steps, neurons, block,
        ),
        -(-neurons // block),
        steps * neurons // tuning.LIF_THREAD,
    )  # fmt: skip


# The scans. What is fixed for a layer is a constant in them; None is compiled away. A step's
# neurons are gone through in runs as long as its scales are.


def _forward_scan(
    reset: Reset,
    dtype: torch.dtype,
    input_dtype: torch.dtype,
    spike_dtype: torch.dtype,
    added_dtype: torch.dtype,
    as_library: bool,
) -> Callable[..., None]:
    subtract, zero = reset == "subtract", reset == "zero"
    rescaled = normalised_as_library if as_library else normalised

    def scan(  # type: ignore[no-untyped-def]
        input, stride, scale, shift, added, decay, theta, thetas, state, spikes, membranes,
        steps, neurons, block, first, last,
    ):  # fmt: skip
        for index in range(first, last):
            begin = index * block
            end = min(begin + block, neurons)
            run_length = block if scale is None else scale.shape[1]
            for t in range(steps):
                if scale is not None:
                    row = t if len(scale) > 1 else 0
                    factor, offset = scale[row], shift[row]
                for since in range(begin, end, run_length):
                    size = min(run_length, end - since)
                    at, of = t * stride + since, t * neurons + since
                    values, fired = input[at : at + size], spikes[of : of + size]
                    membrane = state[since : since + size]
                    if thetas is not None:
                        own = thetas[since : since + size]
                    if added is not None:
                        more = added[of : of + size]
                    if membranes is not None:
                        kept = membranes[of : of + size]
                    for i in range(size):
                        if thetas is not None:
                            theta = own[i]
                        current = widened(values[i])
                        if scale is not None:
                            current = rescaled(current, factor[i], offset[i])
                        if added is not None:
                            current += widened(more[i])
                        u = integrate(membrane[i], current, decay, theta, subtract, zero)
                        membrane[i] = u
                        fired[i] = narrowed(fires(u, theta), spikes)
                        if membranes is not None:
                            kept[i] = u

    return scan


def _backward_scan(
    surrogate: str,
    path: ThresholdGradient,
    reset: Reset,
    dtype: torch.dtype,
    input_dtype: torch.dtype,
    g_spike_dtype: torch.dtype,
    g_dtype: torch.dtype,
    added_dtype: torch.dtype,
    as_library: bool,
) -> Callable[..., None]:
    rescaled = normalised_as_library if as_library else normalised
    curve, real = SURROGATES[surrogate], REALS[dtype]
    penalty, fired_only = WINDOWS[path.window], path.fired_only
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        input, stride, scale, shift, added, decay, theta, thetas, centre, centres, narrowness,
        height, start, g_spikes, g_membranes, g_current, carried, g_threshold,
        steps, neurons, block, first, last,
    ):  # fmt: skip
        # Membranes, that before the first step included.
        window = np.empty((steps + 1, block), real)
        total = np.empty(block, real)
        for index in range(first, last):
            begin = index * block
            size = min(block, neurons - begin)
            window[0, :size] = start[begin : begin + size]
            run_length = block if scale is None else scale.shape[1]
            for t in range(steps):
                if scale is not None:
                    row = t if len(scale) > 1 else 0
                    factor, offset = scale[row], shift[row]
                for since in range(0, size, run_length):
                    until = min(since + run_length, size)
                    at = t * stride + begin
                    values = input[at + since : at + until]
                    before, after = window[t, since:until], window[t + 1, since:until]
                    if added is not None:
                        of = t * neurons + begin
                        more = added[of + since : of + until]
                    if thetas is not None:
                        own = thetas[begin + since : begin + until]
                    for i in range(until - since):
                        if thetas is not None:
                            theta = own[i]
                        current = widened(values[i])
                        if scale is not None:
                            current = rescaled(current, factor[i], offset[i])
                        if added is not None:
                            current += widened(more[i])
                        after[i] = integrate(before[i], current, decay, theta, subtract, zero)
            if thetas is not None:
                own = thetas[begin : begin + size]
            if centres is not None:
                peak = centres[begin : begin + size]
            if g_threshold is not None:
                g_theta = g_threshold[begin : begin + size]
            carry = carried[begin : begin + size]
            total[:] = 0
            for t in range(steps - 1, -1, -1):
                of = t * neurons + begin
                now, before = window[t + 1], window[t]
                if g_spikes is not None:
                    g_z = g_spikes[of : of + size]
                if g_membranes is not None:
                    g_m = g_membranes[of : of + size]
                for i in range(size):
                    if thetas is not None:
                        theta = own[i]
                    if centres is not None:
                        centre = peak[i]
                    g = carry[i]
                    if g_membranes is not None:
                        g += widened(g_m[i])
                    if g_spikes is not None:
                        arriving, u = widened(g_z[i]), now[i]
                        through = to_membrane(arriving, u, centre, narrowness, height, curve)
                        g += through
                        if g_threshold is not None:
                            g_theta[i] -= from_threshold(through, u, theta, penalty, fired_only)
                    if subtract and g_threshold is not None:
                        g_theta[i] -= from_threshold_by_reset(g, before[i], theta)
                    # The same current at each step gets the sum.
                    total[i] = total[i] + g if stride == 0 else g
                    carry[i] = to_before(g, before[i], decay, theta, zero)
                if stride != 0 or t == 0:
                    at = t * stride + begin
                    g_now = g_current[at : at + size]
                    for i in range(size):
                        g_now[i] = narrowed(total[i], g_current)

    return scan
