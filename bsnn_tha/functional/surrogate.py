"""Surrogate gradients: what stands in for the derivative of a spike.

A spike z = 1[u ≥ θ] has no useful derivative. Training replaces ∂z/∂u by a
bump s(u, centre). Firing (at θ) and the bump (at its centre) are kept apart,
because threshold annealing needs them apart: θ moves, the bump stays at θ0
(Eshraghian and Lu 2022, Eq. 8).

A shape is any callable ``(membrane, centre) -> derivative``, elementwise and
in the membrane's dtype. The ones here are frozen dataclasses, so that a neuron
that holds one can be copied, pickled and compared. (:class:`FromSnnTorch` is as
picklable as the function it wraps; snnTorch's own are closures and are not.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsnn_tha.errors import InvalidValueError

Surrogate = Callable[[Tensor, Tensor], Tensor]
"""``(membrane, centre) -> ∂z/∂u``, elementwise; centre broadcasts."""


def _check_slope(slope: float) -> None:
    if not slope > 0 or not math.isfinite(slope):
        raise InvalidValueError(f"slope must be a finite number above 0, but got slope={slope:g}")


@dataclass(frozen=True)
class FastSigmoid:
    """Derivative of the fast sigmoid, Eq. 8: s = 1 / (1 + k |centre − u|)².

    Args:
        slope: k > 0, per unit of membrane potential. Larger is narrower.

    Example:
        >>> FastSigmoid(slope=10.0)(torch.tensor([1.0, 1.1]), torch.tensor(1.0))
        tensor([1.0000, 0.2500])
    """

    slope: float = 25.0

    def __post_init__(self) -> None:
        _check_slope(self.slope)

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        width = (membrane - centre).abs_().mul_(self.slope).add_(1.0)
        return width.square_().reciprocal_()


@dataclass(frozen=True)
class Sigmoid:
    """Derivative of the logistic function, s = k σ(k(u − centre)) σ(k(centre − u)).

    Args:
        slope: k > 0, per unit of membrane potential.

    Example:
        >>> Sigmoid(slope=4.0)(torch.tensor([1.0]), torch.tensor(1.0))
        tensor([1.])
    """

    slope: float = 25.0

    def __post_init__(self) -> None:
        _check_slope(self.slope)

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        probability = torch.sigmoid(self.slope * (membrane - centre))
        return self.slope * probability * (1 - probability)


@dataclass(frozen=True)
class ArcTan:
    """Derivative of snnTorch's arctan, s = (k/2) / (1 + (π/2 · k (u − centre))²).

    Args:
        slope: k > 0, per unit of membrane potential (snnTorch's ``alpha``).

    Example:
        >>> ArcTan(slope=2.0)(torch.tensor([1.0]), torch.tensor(1.0))
        tensor([1.])
    """

    slope: float = 2.0

    def __post_init__(self) -> None:
        _check_slope(self.slope)

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        angle = (math.pi / 2 * self.slope) * (membrane - centre)
        return (self.slope / 2) / (1 + angle.square())


@dataclass(frozen=True)
class FromSnnTorch:
    """The derivative of a surrogate from ``snntorch.surrogate``.

    snnTorch's functions fire and differentiate in one go, at u − θ > 0. This
    keeps their derivative only, so that it can be centred anywhere.

    Args:
        spike_grad: a function from ``snntorch.surrogate``, e.g. ``atan()``.

    Example:
        >>> from snntorch import surrogate
        >>> FromSnnTorch(surrogate.atan(2.0))(torch.tensor([1.0]), torch.tensor(1.0))
        tensor([1.])
    """

    spike_grad: Callable[[Tensor], Any]

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        with torch.enable_grad():
            distance = (membrane - centre).detach().requires_grad_()
            spikes = self.spike_grad(distance)
            (derivative,) = torch.autograd.grad(spikes.sum(), distance)
        return derivative


SURROGATES: dict[str, type] = {
    "fast_sigmoid": FastSigmoid,
    "sigmoid": Sigmoid,
    "arctan": ArcTan,
}
"""Shapes by name; each takes ``slope``."""
