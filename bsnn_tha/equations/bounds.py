r"""Learned numbers that mean something within bounds only, such as a decay in [0, 1].

Clamped where it is used, x would lose its gradient as soon as a step of the optimizer
takes it out of bounds, and stay there for good. Here what is used is clamped likewise,

    y = min(max(x, low), high),

and the gradient g of y reaches x unless a step against it would lead further out:

    ∂L/∂x = g    but 0 where x < low and g > 0, or x > high and g < 0.

So x never wanders off (a straight-through gradient would take it ever further, and have to
bring it all the way back), and turns back as soon as its gradient does. Nothing need be
called after the optimizer's step: it is the same in a loop of one's own, in Lightning
and under gradient accumulation. At a bound itself the gradient passes.

Learned thresholds are never clamped in use: their gradient passes wherever they are, and
they are put back after the step
(:meth:`~bsnn_tha.nn.thresholds.ThresholdRule.advance`), with the rest of their rule.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _Held(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, low: float, high: float) -> Tensor:
        return value.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        value, ctx.low, ctx.high = inputs
        ctx.save_for_backward(value)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        (value,) = ctx.saved_tensors
        (g,) = grad
        outwards = ((value < ctx.low) & (g > 0)) | ((value > ctx.high) & (g < 0))
        return torch.where(outwards, 0, g), None, None


def held(value: Tensor, low: float, high: float) -> Tensor:
    """``value`` clamped to ``[low, high]``, with a gradient that leads back into it.

    Example:
        >>> beta = torch.tensor([0.5, 1.2, 1.2], requires_grad=True)
        >>> held(beta, 0, 1)
        tensor([0.5000, 1.0000, 1.0000], grad_fn=<_HeldBackward>)
        >>> held(beta, 0, 1).backward(torch.tensor([3.0, 3.0, -3.0]))  # a step goes against it
        >>> beta.grad
        tensor([3., 3., 0.])
    """
    return _Held.apply(value, low, high) if value.requires_grad else value.clamp(low, high)


def held_decay(decay: Tensor) -> Tensor:
    """A decay per time step, such as β, as neurons use it: in [0, 1] by :func:`held`."""
    return held(decay, 0, 1)
