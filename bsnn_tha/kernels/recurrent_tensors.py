"""Both scans of :mod:`bsnn_tha.functional.recurrent_lif` in tensor operations.

For any device and dtype. Forward there is a compiled one as well,
:mod:`bsnn_tha.kernels.cpu.recurrent_lif`; backward a step is mostly a product of matrices, which
is the library's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import (
    fires,
    from_threshold,
    from_threshold_by_reset,
    integrate,
    to_before,
    to_decay,
)
from bsnn_tha.kernels.lif_tensors import Upstream


def forward(
    current: Tensor, weight: Tensor, start: Tensor | None, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """Spikes and membranes of every step.

    Args:
        current: I without what comes back, ``[time, batch, neurons]``.
        weight: V, ``[neurons, neurons]``.
        start: u before the first step; None where nothing fired before.
        dynamics: with β and θ in the current's dtype.
    """
    spikes, membranes = torch.empty_like(current), torch.empty_like(current)
    u = torch.zeros_like(current[0]) if start is None else start
    before = None if start is None else fires(u, dynamics.threshold).to(current.dtype)
    for t, step_current in enumerate(current):
        if before is not None:
            step_current = step_current + F.linear(before, weight)
        u = integrate(step_current, u, dynamics.beta, dynamics.threshold, dynamics.reset)
        spikes[t], membranes[t] = fires(u, dynamics.threshold), u
        before = spikes[t]
    return spikes, membranes


def backward(
    grads: Upstream,
    weight: Tensor,
    start: Tensor | None,
    dynamics: Dynamics,
    membranes: Tensor,
    learn_beta: bool,
    learn_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of current, start, β and θ; None for those that are not learned.

    That of V is Σ_t g_I[t+1] z[t]ᵀ.

    Args:
        grads: gradients that reach the results.
        weight, start, dynamics, membranes: of the forward pass.
        learn_beta, learn_threshold: whether β and θ want a gradient.
    """
    g_spikes, g_membranes, carried = grads
    beta, threshold, centre = dynamics.tensors
    begin = torch.zeros_like(membranes[0]) if start is None else start
    # The loop over time is left with what needs the step after: all else is done for the window.
    slopes = dynamics.surrogate(membranes, centre)
    through, g_current = torch.empty_like(membranes), torch.empty_like(membranes)
    back: Tensor | None = None  # what the spikes get from the step after them
    for t in reversed(range(len(membranes))):
        g_z = back if g_spikes is None else g_spikes[t] if back is None else g_spikes[t] + back
        if g_z is None:
            through[t] = 0
        else:
            torch.mul(g_z, slopes[t], out=through[t])
        g = through[t] if carried is None else through[t] + carried
        g_current[t] = g if g_membranes is None else g + g_membranes[t]
        before = membranes[t - 1] if t else begin
        carried = to_before(g_current[t], before, beta, threshold, dynamics.reset)
        back = g_current[t] @ weight
    assert carried is not None and back is not None
    g_beta = g_threshold = None
    earlier = torch.cat([begin.unsqueeze(0), membranes[:-1]]) if dynamics.learned else membranes
    if learn_beta:
        g_beta = to_decay(g_current, earlier, threshold, dynamics.reset).sum_to_size(beta.shape)
    if start is not None:
        before_all = back * dynamics.surrogate(start, centre)
        carried = carried + before_all
        if learn_threshold:
            through = torch.cat([through, before_all.unsqueeze(0)])
            membranes = torch.cat([membranes, start.unsqueeze(0)])
    if learn_threshold:
        taken = from_threshold(through, membranes, threshold, dynamics.threshold_gradient)
        g_threshold = -taken.sum_to_size(threshold.shape)
        if dynamics.reset == "subtract":
            by_reset = from_threshold_by_reset(g_current, earlier, threshold)
            g_threshold = g_threshold - by_reset.sum_to_size(threshold.shape)
    return g_current, carried, g_beta, g_threshold
