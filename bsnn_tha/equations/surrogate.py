"""Surrogate gradients: what stands in for the derivative of a spike.

A spike z = 1[u ≥ θ] has no useful derivative. Training replaces ∂z/∂u by a
bump s(u, centre). Firing (at θ) and the bump (at its centre) are kept apart,
because threshold annealing needs them apart: θ moves, the bump stays at θ0
(Eshraghian and Lu 2022, Eq. 8). What reaches θ itself is a choice of its own:
:mod:`bsnn_tha.equations.threshold_gradient`.

A shape is any callable ``(membrane, centre) -> derivative``, elementwise and
in the membrane's dtype. The ones here are frozen dataclasses, so that a neuron
that holds one can be copied, pickled and compared. (:class:`FromSnnTorch` is as
picklable as the function it wraps; snnTorch's own are closures and are not.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsnn_tha.choices import Axis
from bsnn_tha.errors import InvalidValueError

Surrogate = Callable[[Tensor, Tensor], Tensor]
"""``(membrane, centre) -> ∂z/∂u``, elementwise; centre broadcasts."""


@dataclass(frozen=True)
class _Shape:
    """What the named shapes share: a slope k and a height factor s."""

    slope: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("slope", "scale"):
            value = getattr(self, name)
            if not value > 0 or not math.isfinite(value):
                raise InvalidValueError(
                    f"{name} must be a finite number above 0, but got {name}={value:g}"
                )

    def _distance(self, membrane: Tensor, centre: Tensor) -> Tensor:
        """k |u − centre|, in memory of its own."""
        return (membrane - centre).abs_().mul_(self.slope)


@dataclass(frozen=True)
class FastSigmoid(_Shape):
    """Derivative of the fast sigmoid (Eshraghian and Lu 2022, Eq. 8): s / (1 + k |u − centre|)².

    Args:
        slope: k > 0, per unit of membrane potential. Larger is narrower.
        scale: s > 0, the height at the centre.

    Raises:
        InvalidValueError: the slope or the scale is not finite or not above 0.

    Example:
        >>> FastSigmoid(slope=10.0)(torch.tensor([1.0, 1.1]), torch.tensor(1.0))
        tensor([1.0000, 0.2500])
    """

    slope: float = 25.0

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        width = self._distance(membrane, centre).add_(1.0)
        return width.square_().reciprocal_().mul_(self.scale)


@dataclass(frozen=True)
class Sigmoid(_Shape):
    """Derivative of the logistic function, s k σ(k (u − centre)) σ(k (centre − u)).

    Args:
        slope: k > 0, per unit of membrane potential.
        scale: s > 0; the height at the centre is s k / 4.

    Raises:
        InvalidValueError: the slope or the scale is not finite or not above 0.

    Example:
        >>> Sigmoid(slope=4.0)(torch.tensor([1.0]), torch.tensor(1.0))
        tensor([1.])
    """

    slope: float = 25.0

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        probability = torch.sigmoid(self.slope * (membrane - centre))
        return self.scale * self.slope * probability * (1 - probability)


@dataclass(frozen=True)
class ArcTan(_Shape):
    """Derivative of snnTorch's arctan, s (k/2) / (1 + (π/2 · k (u − centre))²).

    Args:
        slope: k > 0, per unit of membrane potential (snnTorch's ``alpha``).
        scale: s > 0; the height at the centre is s k / 2.

    Raises:
        InvalidValueError: the slope or the scale is not finite or not above 0.

    Example:
        >>> ArcTan(slope=2.0)(torch.tensor([1.0]), torch.tensor(1.0))
        tensor([1.])
    """

    slope: float = 2.0

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        angle = (math.pi / 2 * self.slope) * (membrane - centre)
        return (self.scale * self.slope / 2) / (1 + angle.square())


@dataclass(frozen=True)
class Exponential(_Shape):
    """Two-sided exponential (Takaghaj and Sampson, Eq. 2): s k exp(−k |u − centre|).

    The paper writes it with τ = 1/k, as (s/τ) exp(−|u − θ|/τ), and centres it
    at the threshold.

    Args:
        slope: k = 1/τ > 0, per unit of membrane potential; the paper's τ is 3.75.
        scale: s > 0, the paper's is 1.5; the height at the centre is s k.

    Raises:
        InvalidValueError: the slope or the scale is not finite or not above 0.

    Example:
        >>> Exponential()(torch.tensor([1.25, 5.0]), torch.tensor(1.25))
        tensor([0.4000, 0.1472])
    """

    slope: float = 1 / 3.75
    scale: float = 1.5

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        return self._distance(membrane, centre).neg_().exp_().mul_(self.scale * self.slope)


@dataclass(frozen=True)
class Rectangle(_Shape):
    """Rectangle (Wang, Cheng and Lim 2022, Eq. 4): s where k |u − centre| < ½, else 0.

    Args:
        slope: k > 0, per unit of membrane potential; the rectangle is 1/k wide.
        scale: s > 0, the height.

    Raises:
        InvalidValueError: the slope or the scale is not finite or not above 0.

    Example:
        >>> Rectangle()(torch.tensor([0.5, 0.6, 1.0, 1.5]), torch.tensor(1.0))
        tensor([0., 1., 1., 0.])
    """

    slope: float = 1.0

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        distance = self._distance(membrane, centre)
        inside = (distance < 0.5).to(distance.dtype).mul_(self.scale)
        return torch.where(distance.isnan(), distance, inside)  # NaN: outside, but not silently


@dataclass(frozen=True)
class Triangle(_Shape):
    """Triangle (LT-SNN, Eq. 5): s max(0, 1 − k |u − centre|).

    Args:
        slope: k > 0, per unit of membrane potential; zero from 1/k off the centre.
        scale: s > 0, the height at the centre.

    Raises:
        InvalidValueError: the slope or the scale is not finite or not above 0.

    Example:
        >>> Triangle()(torch.tensor([0.0, 0.75, 1.0, 1.5]), torch.tensor(1.0))
        tensor([0.0000, 0.7500, 1.0000, 0.5000])
    """

    slope: float = 1.0

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        distance = self._distance(membrane, centre)
        return distance.neg_().add_(1.0).clamp_min_(0).mul_(self.scale)


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


def hold_numbers(surrogate: Surrogate) -> None:
    """Have a dataclass's numbers be constants of a graph that is being compiled.

    A number that another network before had another value of is a variable to PyTorch's
    compiler, which then fails in the gradient of a function that the number is not handed to. What
    asks for its value makes it a constant; a network with another one gets a graph of its own.
    """
    if torch.compiler.is_compiling():
        for name in getattr(surrogate, "__dataclass_fields__", ()):
            value = getattr(surrogate, name)
            if isinstance(value, float):
                hash(value)


SURROGATES: Axis[Surrogate] = Axis(
    "surrogate",
    {
        "fast_sigmoid": FastSigmoid,
        "sigmoid": Sigmoid,
        "arctan": ArcTan,
        "exponential": Exponential,
        "rectangle": Rectangle,
        "triangle": Triangle,
    },
)
"""Shapes by name; each takes ``slope`` and ``scale``."""


def choose_surrogate(
    surrogate: str | Surrogate,
    slope: float | None = None,
    surrogate_scale: float | None = None,
    surrogate_options: Mapping[str, Any] | None = None,
) -> Surrogate:
    """The shape that a configuration names.

    Args:
        surrogate: a name in :data:`SURROGATES`, ``module:Class`` or a class of one's own; or
            a shape, which is returned.
        slope, surrogate_scale: k and s, for a shape that has them; its own if None.
        surrogate_options: other arguments of a shape of one's own.

    Raises:
        InvalidValueError: another name, or a setting that it does not have.

    Example:
        >>> choose_surrogate("triangle", slope=2.0)
        Triangle(slope=2.0, scale=1.0)
        >>> choose_surrogate(Triangle(), slope=2.0)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: surrogate Triangle(slope=1.0, scale=1.0) has its own \
settings; leave out slope
    """
    settings = dict(surrogate_options or {})
    for name, value in (("slope", slope), ("scale", surrogate_scale)):
        if value is not None:
            settings[name] = value
    return SURROGATES.chosen(surrogate, settings, {"scale": "surrogate_scale"})
