"""The loops of :mod:`bsnn_tha.kernels.cpu.lif`: through a window of currents, and back.

A loop is compiled around one surrogate and one window of θ's gradient. What a neuron
does in a step is in :mod:`bsnn_tha.kernels.cpu.lif_step`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.lif_step import (
    SURROGATES,
    WINDOWS,
    fires,
    from_threshold,
    from_threshold_by_reset,
    integrate,
    to_before,
    to_decay,
    to_membrane,
)

# What is fixed for a layer is a constant in them; None is compiled away. The dtype is for
# `run`, which compiles one for each.


def forward_scan(reset: Reset, dtype: torch.dtype) -> Callable[..., None]:
    """The forward scan."""
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        current, time_stride, row_stride,
        beta, threshold, state,
        spikes, membranes,
        steps, neurons, length, block, first, last,
    ):  # fmt: skip
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            at, of = row * row_stride + column, row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            membrane = state[of : of + size]
            for _ in range(steps):
                inputs = current[at : at + size]
                fired = spikes[of : of + size]
                if membranes is not None:
                    kept = membranes[of : of + size]
                for i in range(size):
                    u = integrate(membrane[i], inputs[i], decay[i], theta[i], subtract, zero)
                    membrane[i] = u
                    fired[i] = narrowed(fires(u, theta[i]), spikes)
                    if membranes is not None:
                        kept[i] = narrowed(u, current)
                at += time_stride
                of += neurons

    return scan


def backward_scan(
    surrogate: str, threshold_gradient: ThresholdGradient, reset: Reset, dtype: torch.dtype
) -> Callable[..., None]:
    """The backward scan around a curve of :mod:`bsnn_tha.kernels.curves`."""
    curve, window = SURROGATES[surrogate], WINDOWS[threshold_gradient.window]
    fired_only = threshold_gradient.fired_only
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        g_spikes, spikes_time_stride, spikes_row_stride,
        g_membranes, membranes_time_stride, membranes_row_stride,
        start, beta, threshold, centre,
        membranes, kept_time_stride, kept_row_stride,
        narrowness, height,
        g_current, time_stride, row_stride,
        carried, g_beta, g_threshold,
        steps, neurons, length, block, first, last,
    ):  # fmt: skip
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            of = row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            peak, initial = centre[of : of + size], start[of : of + size]
            carry = carried[of : of + size]
            for t in range(steps - 1, -1, -1):
                at = t * kept_time_stride + row * kept_row_stride + column
                now = membranes[at : at + size]
                at = max(t - 1, 0) * kept_time_stride + row * kept_row_stride + column
                earlier = membranes[at : at + size]
                at = t * time_stride + row * row_stride + column
                g_now = g_current[at : at + size]
                if g_spikes is not None:
                    at = t * spikes_time_stride + row * spikes_row_stride + column
                    g_z = g_spikes[at : at + size]
                if g_membranes is not None:
                    at = t * membranes_time_stride + row * membranes_row_stride + column
                    g_m = g_membranes[at : at + size]
                if g_beta is not None:
                    g_decay = g_beta[of : of + size]
                if g_threshold is not None:
                    g_theta = g_threshold[of : of + size]
                for i in range(size):
                    u = widened(now[i])
                    before = widened(earlier[i]) if t > 0 else initial[i]
                    g = carry[i]
                    if g_membranes is not None:
                        g += widened(g_m[i])
                    if g_spikes is not None:
                        arriving = widened(g_z[i])
                        through = to_membrane(arriving, u, peak[i], narrowness, height, curve)
                        g += through
                        if g_threshold is not None:
                            g_theta[i] -= from_threshold(through, u, theta[i], window, fired_only)
                    g_now[i] = narrowed(g, g_current)
                    if g_beta is not None:
                        g_decay[i] += to_decay(g, before, theta[i], zero)
                    if subtract and g_threshold is not None:
                        g_theta[i] -= from_threshold_by_reset(g, before, theta[i])
                    carry[i] = to_before(g, before, decay[i], theta[i], zero)

    return scan
