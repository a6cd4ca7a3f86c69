"""Thresholds that follow a gradient: of their own, or on top of annealing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.thresholds.annealed import Annealed
from bsnn_tha.nn.thresholds.rule import ThresholdRule, single

_LOWEST = 0.01


class Learned(ThresholdRule):
    """θ is a parameter: one per neuron as in Rouser, or one per layer as in LT-SNN.

    Rouser (Takaghaj and Sampson, Eq. 3 and 5) and LT-SNN (Eq. 9) give θ a
    gradient and leave it free otherwise. A threshold at or below zero fires at
    rest, so here it is held at ``minimum`` or above after every step.

    Args:
        theta_0: initial threshold θ0 > 0; a tensor for one per neuron.
        shape: ``()`` for one threshold that the layer shares, or those of the
            tensor; the shape of the layer's neurons for one each.
        minimum: the lowest θ allowed, 0 < ``minimum`` ≤ θ0.

    Attributes:
        threshold: θ now, a parameter of that shape.

    Raises:
        InvalidValueError: a value breaks its rule.

    Example:
        >>> Learned(1.25, shape=(3,))()
        Parameter containing:
        tensor([1.2500, 1.2500, 1.2500], requires_grad=True)
    """

    threshold: nn.Parameter

    def __init__(
        self, theta_0: float | Tensor, shape: Sequence[int] = (), minimum: float = _LOWEST
    ) -> None:
        super().__init__(theta_0, shape)
        _check_minimum(minimum, self.theta_0.min().item())
        self.minimum = minimum
        self.threshold = nn.Parameter(self.theta_0.clone())

    def forward(self) -> Tensor:
        """θ now."""
        return self.threshold

    def project(self) -> None:
        """Hold θ at ``minimum`` or above."""
        self.threshold.clamp_(min=self.minimum)


class Tanh(ThresholdRule):
    """θ = c · tanh(k) with k learned (LTMD: Wang, Cheng and Lim 2022, Eq. 5 to 8).

    The gradient of k fades as θ nears its bounds ±c, so that no threshold runs
    away. The paper has c = 1, k = 0.5 at first and one k for a layer.

    Args:
        theta_0: initial threshold θ0 > 0. Default: c · tanh(0.5), as published.
        scale: c > θ0, the bound of θ. Default: the c that puts k at 0.5, or 1
            if ``theta_0`` is left out as well.
        shape: ``()`` for one threshold that the layer shares; the shape of
            the layer's neurons for one each.

    Attributes:
        k: the parameter, of that shape.
        scale: c.

    Raises:
        InvalidValueError: a value breaks its rule.

    Example:
        >>> rule = Tanh()
        >>> round(rule().item(), 4)
        0.4621
        >>> round(Tanh(theta_0=2.0).scale, 4)
        4.3279
    """

    k: nn.Parameter

    def __init__(
        self,
        theta_0: float | None = None,
        scale: float | None = None,
        shape: Sequence[int] = (),
    ) -> None:
        if theta_0 is not None:
            theta_0 = single("theta_0", theta_0)
        if scale is None:
            scale = 1.0 if theta_0 is None else theta_0 / math.tanh(_PUBLISHED_K)
        if theta_0 is None:
            theta_0 = scale * math.tanh(_PUBLISHED_K)
        super().__init__(theta_0, shape)
        if not scale > theta_0 or not math.isfinite(scale):
            raise InvalidValueError(
                f"scale must be greater than theta_0={theta_0:g}, but got scale={scale:g}; "
                "leave it out for the scale that starts at tanh(0.5)"
            )
        self.scale = scale
        self.k = nn.Parameter(torch.atanh(self.theta_0 / scale))

    def forward(self) -> Tensor:
        """θ now."""
        return self.scale * torch.tanh(self.k)


class AnnealedLearned(Annealed):
    """θ = θ(γ) + δ: annealing sets the course (Eq. 4), a gradient corrects it.

    Args:
        theta_0, theta_inf, alpha: of the schedule, as in :class:`Annealed`.
        shape: of δ: ``()`` for one that the layer shares; the shape of the
            layer's neurons for one each.
        minimum: the lowest θ allowed, 0 < ``minimum`` ≤ θ0.

    Attributes:
        offset: δ, a parameter that starts at 0.

    Raises:
        InvalidValueError: a value breaks its rule.

    Example:
        >>> rule = AnnealedLearned(theta_0=1.0, theta_inf=3.0, alpha=0.5)
        >>> rule.advance()
        >>> rule()
        tensor(2., grad_fn=<AddBackward0>)
    """

    offset: nn.Parameter

    def __init__(
        self,
        theta_0: float,
        theta_inf: float,
        alpha: float,
        shape: Sequence[int] = (),
        minimum: float = _LOWEST,
    ) -> None:
        super().__init__(theta_0, theta_inf, alpha)
        _check_minimum(minimum, theta_0)
        self.minimum = minimum
        self.offset = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self) -> Tensor:
        """θ now."""
        # Not the buffer itself, which changes in place: backward may need it.
        return self.threshold + self.offset

    def final(self) -> Tensor:
        """θ∞ + δ."""
        return self.theta_inf + self.offset.detach()

    def project(self) -> None:
        """Hold θ at ``minimum`` or above."""
        self.offset.clamp_(min=self.minimum - self.threshold)


_PUBLISHED_K = 0.5


def _check_minimum(minimum: float, theta_0: float) -> None:
    if not 0 < minimum <= theta_0:
        raise InvalidValueError(
            f"minimum must be above 0 and at most theta_0={theta_0:g}, but got minimum={minimum:g}"
        )
