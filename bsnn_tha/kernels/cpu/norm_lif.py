"""Loops of :mod:`bsnn_tha.functional.norm_lif`, compiled by numba.

Neurons are taken in blocks, as in :mod:`bsnn_tha.kernels.cpu.lif`: a block of currents is
normalised, integrated and fires at all time steps while its membranes stay in the first-level
cache. Only spikes are written. Backward its membranes are computed again, and the scan back
through time leaves the gradient of the normalised current, and sums that of a learned θ for
each neuron; neurons are summed at the end, in an order that knows no threads.

Operations are those of :mod:`bsnn_tha.kernels.cpu.batch_norm` and then those of
:mod:`bsnn_tha.kernels.cpu.lif_step`, in the same order: the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.batch_norm import normalised
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


def forward(
    input: Tensor,
    scale: Any,
    shift: Any,
    dynamics: Dynamics,
    start: Tensor,
    steps: int,
    keep: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes and, to keep, membranes ``[steps, neurons]``; the last membrane ``[neurons]``.

    Args:
        input: currents ``[steps, neurons]``, channels innermost; or ``[1, neurons]``, the same
            at each step.
        scale, shift: of every channel, whole rounds of them.
        dynamics: its tensors in the input's dtype: numbers; θ and the centre also one for each
            neuron of a sample, as they lie in memory.
        start: membranes before the first step, ``[neurons]``, in what is computed with.
        steps: T.
        keep: whether membranes are wanted.
    """
    shape = steps, len(start)
    spikes = input.new_empty(shape)
    membranes = input.new_empty(shape) if keep else None
    last, real = start.clone(), REALS[input.dtype]
    _run(
        _forward_scan,
        (dynamics.reset, input.dtype),
        input,
        steps,
        (scale, shift),
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
    scale: Any,
    shift: Any,
    dynamics: Dynamics,
    start: Tensor,
    steps: int,
    learn_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of the normalised currents, like ``input``, of ``start``, and of θ, if learned.

    Args:
        grads: that reach spikes, membranes and last membrane; None where none does.
        input, scale, shift, dynamics, start, steps: of the forward pass.
        learn_threshold: whether θ wants a gradient.
    """
    g_spikes, g_membranes, g_last = grads
    curve, real = curve_of(dynamics.surrogate), REALS[input.dtype]
    g_current = torch.empty_like(input)
    carried = torch.zeros_like(start) if g_last is None else g_last.to(start.dtype).clone()
    g_threshold = torch.zeros_like(start) if learn_threshold else None
    # Without a learned threshold all are the same loop.
    path = dynamics.threshold_gradient if learn_threshold else SHARED
    _run(
        _backward_scan,
        (curve.name, path, dynamics.reset, input.dtype),
        input,
        steps,
        (scale, shift),
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


def _run(
    make: Callable[..., Any],
    constants: tuple[Any, ...],
    input: Tensor,
    steps: int,
    normalising: tuple[Any, Any],
    *arguments: Any,
) -> None:
    """Run a scan over all blocks."""
    seen, neurons = input.shape
    rounds = len(normalising[0])
    block = min(tuning.NORM_LIF_BLOCK, tuning.NORM_LIF_WINDOW // steps)
    count = max(1, min(block, neurons) // rounds)
    scale, shift = (np.tile(its, count) for its in normalising)
    run(
        make,
        constants,
        (
            memory_of(input), 0 if seen == 1 else neurons, scale, shift, *arguments,
            steps, neurons, count * rounds,
        ),
        -(-neurons // (count * rounds)),
        steps * neurons // tuning.LIF_THREAD,
    )  # fmt: skip


# The scans. What is fixed for a layer is a constant in them; None is compiled away.


def _forward_scan(reset: Reset, dtype: torch.dtype) -> Callable[..., None]:
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        input, stride, scale, shift, decay, theta, thetas, state, spikes, membranes,
        steps, neurons, block, first, last,
    ):  # fmt: skip
        for index in range(first, last):
            begin = index * block
            size = min(block, neurons - begin)
            membrane = state[begin : begin + size]
            if thetas is not None:
                own = thetas[begin : begin + size]
            for t in range(steps):
                at, of = t * stride + begin, t * neurons + begin
                values, fired = input[at : at + size], spikes[of : of + size]
                if membranes is not None:
                    kept = membranes[of : of + size]
                for i in range(size):
                    if thetas is not None:
                        theta = own[i]
                    current = narrowed(normalised(values[i], scale[i], shift[i]), input)
                    u = integrate(membrane[i], current, decay, theta, subtract, zero)
                    membrane[i] = u
                    fired[i] = narrowed(fires(u, theta), spikes)
                    if membranes is not None:
                        kept[i] = narrowed(u, membranes)

    return scan


def _backward_scan(
    surrogate: str, path: ThresholdGradient, reset: Reset, dtype: torch.dtype
) -> Callable[..., None]:
    curve, real = SURROGATES[surrogate], REALS[dtype]
    penalty, fired_only = WINDOWS[path.window], path.fired_only
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        input, stride, scale, shift, decay, theta, thetas, centre, centres, narrowness, height,
        start, g_spikes, g_membranes, g_current, carried, g_threshold,
        steps, neurons, block, first, last,
    ):  # fmt: skip
        # Membranes, that before the first step included.
        window = np.empty((steps + 1, block), real)
        total = np.empty(block, real)
        for index in range(first, last):
            begin = index * block
            size = min(block, neurons - begin)
            window[0, :size] = start[begin : begin + size]
            if thetas is not None:
                own = thetas[begin : begin + size]
            if centres is not None:
                peak = centres[begin : begin + size]
            if g_threshold is not None:
                g_theta = g_threshold[begin : begin + size]
            for t in range(steps):
                at = t * stride + begin
                values, before, after = input[at : at + size], window[t], window[t + 1]
                for i in range(size):
                    if thetas is not None:
                        theta = own[i]
                    current = narrowed(normalised(values[i], scale[i], shift[i]), input)
                    after[i] = integrate(before[i], current, decay, theta, subtract, zero)
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
