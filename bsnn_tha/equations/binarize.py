"""Binary weights with a straight-through gradient (Eshraghian and Lu 2022, 2.2).

The forward pass sees sign(w) in {−1, +1}; the gradient reaches the latent
weight w unchanged (identity, not clipped to |w| ≤ 1). sign(0) = +1, so that
every latent weight stands for one bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd import Function


class _StraightThroughSign(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(latent: Tensor) -> Tensor:
        # A choice between two numbers, torch.where, is five times as slow.
        return (latent >= 0).to(latent.dtype).mul_(2).sub_(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to keep: the gradient does not depend on the weights."""

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return grad[0]


def binarize(latent: Tensor) -> Tensor:
    """Sign of the latent weights, in {−1, +1}, with the identity as gradient.

    Args:
        latent: full-precision weights of any shape and floating dtype.

    Returns:
        A tensor like ``latent`` holding −1 where it is negative, +1 elsewhere
        (sign(0) = +1; NaN, which is not ≥ 0, gives −1).

    Example:
        >>> import torch
        >>> w = torch.tensor([-0.3, 0.0, 2.0], requires_grad=True)
        >>> binarize(w)
        tensor([-1.,  1.,  1.], grad_fn=<_StraightThroughSignBackward>)
        >>> binarize(w).backward(torch.tensor([1.0, 2.0, 3.0]))
        >>> w.grad
        tensor([1., 2., 3.])
    """
    return _StraightThroughSign.apply(latent)


@dataclass(frozen=True)
class Binary:
    """:func:`binarize` as a quantizer (:mod:`bsnn_tha.equations.quantizers`)."""

    bits = 1

    def __call__(self, latent: Tensor) -> Tensor:
        """Signs of the latent weights."""
        return binarize(latent)
