"""Signs of latent weights with other gradients than the identity, as quantizers of one's own.

    bsnn-tha train fashion-mnist --variant best --set data.subset=8000 --epochs 8 --threads 1 \
        --set snapshots.count=0 --set network.weights=gradients:Sharpened --seed 0

from this folder. Neither was kept: ``docs/reproduction`` says what they gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _Sign(Function):
    """Signs, whose gradient is multiplied by a factor for each weight."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return (latent >= 0).to(latent.dtype).mul_(2).sub_(1)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return grad[0] * factor, None


@dataclass(frozen=True)
class Clipped:
    """A gradient only for latent weights within ±limit."""

    limit: float = 1.0
    bits = 1

    def __call__(self, latent: Tensor) -> Tensor:
        """Signs of the latent weights."""
        return _Sign.apply(latent, (latent.detach().abs() <= self.limit).to(latent.dtype))


_STEPS: dict[int, int] = {}
"""How many training steps a layer's weights have had, by where they are in memory."""


@dataclass(frozen=True)
class Sharpened:
    """A gradient that becomes that of the sign while training goes on (as IR-Net's).

    The factor is max(1/t, 1)·t·(1 − tanh²(t·w/σ)), σ the layer's standard deviation of w, and t
    goes from low to high evenly on a log scale.

    Args:
        iterations: of the whole training.
        low, high: t at its start and end.
    """

    iterations: float = 504.0
    low: float = 0.1
    high: float = 10.0
    bits = 1

    def __call__(self, latent: Tensor) -> Tensor:
        """Signs of the latent weights."""
        place = latent.data_ptr()
        step = _STEPS.get(place, 0)
        if latent.requires_grad and torch.is_grad_enabled():
            _STEPS[place] = step + 1
        t = self.low * (self.high / self.low) ** min(1.0, step / self.iterations)
        w = latent.detach() / latent.detach().std()
        return _Sign.apply(latent, max(1 / t, 1.0) * t * (1 - torch.tanh(t * w) ** 2))
