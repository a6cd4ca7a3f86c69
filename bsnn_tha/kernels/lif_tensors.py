"""Both scans of :mod:`bsnn_tha.functional.lif` in tensor operations, for any device and dtype.

The compiled ones, :mod:`bsnn_tha.kernels.cpu.lif` and
:mod:`bsnn_tha.kernels.gpu.lif`, have these same two functions and give
the same bits but where their own modules say otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import (
    fires,
    from_threshold,
    from_threshold_by_reset,
    integrate,
    to_before,
    to_decay,
    to_membrane,
)
from bsnn_tha.equations.surrogate import Surrogate
from bsnn_tha.kernels.layout import empty

Upstream = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Gradients that reach spikes, membranes and last membrane; None where none does."""


def differentiates(surrogate: Surrogate) -> bool:
    """Whether :func:`backward` knows the surrogate: any that there is."""
    return True


def forward(
    current: Tensor, start: Tensor, dynamics: Dynamics, order: list[int], keep: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes and membranes of every step, and the last membrane.

    Args:
        current: I, ``[time, batch, ...]``, with any strides.
        start: u before the first step, ``[batch, ...]``.
        dynamics: with β and θ in the current's dtype, broadcast against ``start``.
        order: dimensions of the results as they lie in memory, time first.
        keep: whether the membranes are needed; None in their place if not.
    """
    spikes = empty(current, order)
    membranes = empty(current, order) if keep else None
    u = start
    for t, step_current in enumerate(current.unbind(0)):
        u = integrate(step_current, u, dynamics.beta, dynamics.threshold, dynamics.reset)
        spikes[t] = fires(u, dynamics.threshold)
        if membranes is not None:
            membranes[t] = u
    return spikes, membranes, u


def backward(
    grads: Upstream,
    start: Tensor,
    dynamics: Dynamics,
    membranes: Tensor,
    order: list[int],
    learn_beta: bool,
    learn_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of current, start, β and θ; None for those that are not learned.

    Args:
        grads: gradients that reach the results.
        start, dynamics, membranes: of the forward pass.
        order: dimensions of the current's gradient as they lie in memory.
        learn_beta, learn_threshold: whether β and θ want a gradient.
    """
    g_spikes, g_membranes, g_last = grads
    beta, threshold, centre = dynamics.tensors
    # Steps apart from each other are faster to work on, one at a time.
    time_first = [0, *(dim for dim in order if dim)]
    g_current = empty(membranes, time_first)
    g_beta = torch.zeros_like(beta) if learn_beta else None
    g_threshold = torch.zeros_like(threshold) if learn_threshold else None
    carried = torch.zeros_like(start) if g_last is None else g_last
    for t in reversed(range(len(membranes))):
        u = membranes[t]
        before = membranes[t - 1] if t else start
        g_u = g_current[t]
        g_u.copy_(carried)
        if g_membranes is not None:
            g_u += g_membranes[t]
        if g_spikes is not None:
            through = to_membrane(g_spikes[t], u, centre, dynamics.surrogate)
            g_u += through
            if g_threshold is not None:
                taken = from_threshold(through, u, threshold, dynamics.threshold_gradient)
                g_threshold -= taken.sum_to_size(threshold.shape)
        if g_beta is not None:
            g_beta += to_decay(g_u, before, threshold, dynamics.reset).sum_to_size(beta.shape)
        if g_threshold is not None and dynamics.reset == "subtract":
            taken = from_threshold_by_reset(g_u, before, threshold)
            g_threshold -= taken.sum_to_size(threshold.shape)
        carried = to_before(g_u, before, beta, threshold, dynamics.reset)
    if order != time_first:
        g_current = empty(membranes, order).copy_(g_current)
    return g_current, carried, g_beta, g_threshold
