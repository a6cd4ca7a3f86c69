r"""The leaky integrate-and-fire neuron in a plain time loop: the oracle.

Written to be read beside the paper (Eshraghian and Lu 2022). One step is

    u[t+1] = β u[t] + I[t+1] − z[t] θ,                            (Eq. 1, 15)
    z[t]   = 1 if u[t] ≥ θ else 0,                                (Eq. 2)

and in the backward pass

    ∂z/∂u ← s(u, centre),   ∂z/∂θ ← −s(u, centre) f(u − θ),       (Eq. 8)

with the reset term z[t] detached: no gradient flows from the reset into u. No
paper says whether it should; snnTorch, and so the published code, detaches it. f is
1, or what :mod:`bsnn_tha.equations.threshold_gradient` makes of it.

======  =============================================  ==================
symbol  meaning                                        unit, range
======  =============================================  ==================
u       membrane potential                             that of I
z       spike                                          0 or 1
I       input current, Σ w z_in (plus bias, norm, …)   that of u
β       decay of the membrane per time step            0 ≤ β ≤ 1
θ       firing threshold                               that of u, θ > 0
======  =============================================  ==================

Resets: ``"subtract"`` as above; ``"zero"`` starts the next step from 0, that
is u[t+1] = β u[t] (1 − z[t]) + I[t+1]; ``"none"`` leaves u alone.

Autograd differentiates this file as it stands. Everything faster is tested
against it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from bsnn_tha.equations.surrogate import Surrogate, hold_numbers
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient

Reset = Literal["subtract", "zero", "none"]
RESETS: tuple[Reset, ...] = ("subtract", "zero", "none")


class LIFWindow(NamedTuple):
    """What a neuron did over a window of T time steps."""

    spikes: Tensor
    """z, ``[time, batch, ...]``, 0 or 1 in the current's dtype."""
    membranes: Tensor | None
    """u at every step, like ``spikes``; None unless it was asked for."""
    membrane: Tensor
    """u after the last step, ``[batch, ...]``: where a next window starts. Neurons with more
    states than u give all of them, stacked in front."""


class _Fire(Function):
    """Eq. 2 forward, Eq. 8 backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        membrane: Tensor,
        threshold: Tensor,
        centre: Tensor,
        surrogate: Surrogate,
        threshold_gradient: ThresholdGradient,
    ) -> Tensor:
        return fires(membrane, threshold.to(membrane.dtype)).to(membrane.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        membrane, threshold, centre, ctx.surrogate, ctx.threshold_gradient = inputs
        ctx.save_for_backward(membrane, threshold, centre.to(membrane.dtype))

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        membrane, threshold, centre = ctx.saved_tensors
        through = to_membrane(grad[0], membrane, centre, ctx.surrogate)
        taken = from_threshold(
            through, membrane, threshold.to(membrane.dtype), ctx.threshold_gradient
        )
        to_threshold = -taken.sum_to_size(threshold.shape).to(threshold.dtype)
        return through, to_threshold, None, None, None


def fire(
    membrane: Tensor,
    threshold: Tensor,
    centre: Tensor,
    surrogate: Surrogate,
    threshold_gradient: ThresholdGradient = SHARED,
) -> Tensor:
    """Spikes where u ≥ θ (Eq. 2), with s(u, centre) as their gradient (Eq. 8).

    Args:
        membrane: u, any shape.
        threshold: θ, broadcasts against ``membrane``.
        centre: where the surrogate is centred, broadcasts likewise.
        surrogate: a shape from :mod:`bsnn_tha.equations.surrogate`.
        threshold_gradient: which part of it reaches θ.

    Example:
        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> one = torch.tensor(1.0)
        >>> fire(torch.tensor([0.9, 1.0, 1.1]), one, one, FastSigmoid())
        tensor([0., 1., 1.])
    """
    hold_numbers(surrogate)
    # A tensor of its own: compilers trace no function that gets the same one twice, as θ and a
    # centre at θ would be.
    return _Fire.apply(membrane, threshold, centre.detach(), surrogate, threshold_gradient)


def fires(membrane: Tensor, threshold: Tensor) -> Tensor:
    """z as a truth value (Eq. 2), detached: u ≥ θ, which is not so for NaN."""
    return membrane >= threshold


def integrate(
    current: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: Reset,
    spiked: Tensor | None = None,
) -> Tensor:
    """The membrane one time step on: Eq. 1, with the reset of the step before.

    Args:
        current: I[t+1], ``[batch, ...]``.
        membrane: u[t], same shape.
        beta, threshold: β and θ, broadcast against ``current`` and cast to
            its dtype.
        reset: ``"subtract"``, ``"zero"`` or ``"none"``.
        spiked: z[t], where it has a gradient; None decides it here, detached.

    Returns:
        u[t+1], same shape as ``current``.
    """
    # The state has one dtype, the current's. Parameters in another (a float32 θ
    # under autocast) must not promote it: a recorded membrane is then exactly
    # the one that decides on the reset.
    beta, threshold = beta.to(current.dtype), threshold.to(current.dtype)
    if reset == "none":
        return beta * membrane + current
    if spiked is None:
        spiked = fires(membrane, threshold).to(current.dtype)
    if reset == "zero":
        return beta * (membrane * (1 - spiked)) + current
    return beta * membrane + current - spiked * threshold


# The gradients of one step, for scans that go back through a window themselves.


def to_membrane(g_spikes: Tensor, membrane: Tensor, centre: Tensor, surrogate: Surrogate) -> Tensor:
    """What a spike's gradient gives u (Eq. 8): g_z s(u, centre)."""
    return g_spikes * surrogate(membrane, centre)


def from_threshold(
    through: Tensor, membrane: Tensor, threshold: Tensor, threshold_gradient: ThresholdGradient
) -> Tensor:
    """What a spike's gradient takes from θ, of what :func:`to_membrane` gave u."""
    if threshold_gradient == SHARED:
        return through
    return through * threshold_gradient(membrane - threshold)


def to_before(g: Tensor, before: Tensor, beta: Tensor, threshold: Tensor, reset: Reset) -> Tensor:
    """What u[t−1] gets of g, the gradient that reaches u[t]: κ g, with the reset detached."""
    g = beta * g
    return g * ~fires(before, threshold) if reset == "zero" else g


def to_decay(g: Tensor, before: Tensor, threshold: Tensor, reset: Reset) -> Tensor:
    """What β gets: g u[t−1], or nothing where that was reset to zero."""
    return g * (before * ~fires(before, threshold)) if reset == "zero" else g * before


def from_threshold_by_reset(g: Tensor, before: Tensor, threshold: Tensor) -> Tensor:
    """What a reset by subtraction takes from θ."""
    return g * fires(before, threshold)


def lif_sequence_reference(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    surrogate: Surrogate,
    reset: Reset = "subtract",
    membrane: Tensor | None = None,
    threshold_gradient: ThresholdGradient = SHARED,
    recurrent: Tensor | None = None,
) -> LIFWindow:
    """A window of T time steps, one after the other, differentiated by autograd.

    With recurrent weights V the current of a step is I[t+1] + V z[t]. Before the first step
    nothing fired, unless there is a membrane to start from.

    Args:
        current: I, ``[time, batch, ...]``.
        beta, threshold, centre: β, θ and the surrogate's centre; they
            broadcast against ``[batch, ...]``.
        surrogate: a shape from :mod:`bsnn_tha.equations.surrogate`.
        reset: ``"subtract"``, ``"zero"`` or ``"none"``.
        membrane: u before the first step, ``[batch, ...]``; zero if None.
        threshold_gradient: which part of a spike's gradient reaches θ.
        recurrent: V, ``[neurons, neurons]``, for a current ``[time, batch, neurons]``.

    Returns:
        :class:`LIFWindow` with the membranes of every step.
    """
    u = torch.zeros_like(current[0]) if membrane is None else membrane.to(current.dtype)
    spikes, membranes = [], []
    before = None
    if membrane is not None and recurrent is not None:
        before = fire(u, threshold, centre, surrogate, threshold_gradient)
    for step_current in current:
        if recurrent is not None and before is not None:
            step_current = step_current + F.linear(before, recurrent.to(before.dtype))
        u = integrate(step_current, u, beta, threshold, reset)
        before = fire(u, threshold, centre, surrogate, threshold_gradient)
        spikes.append(before)
        membranes.append(u)
    return LIFWindow(torch.stack(spikes), torch.stack(membranes), u)
