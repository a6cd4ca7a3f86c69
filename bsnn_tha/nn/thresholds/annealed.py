"""Annealing: the threshold relaxes towards its final value (Eshraghian and Lu 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from bsnn_tha.equations.anneal import check_annealing, threshold_at
from bsnn_tha.nn.thresholds.rule import ThresholdRule, single


class Annealed(ThresholdRule):
    """θ relaxes from θ0 to θ∞ over training iterations (Eq. 4).

    Args:
        theta_0: initial threshold θ0 > 0.
        theta_inf: final threshold θ∞ > θ0.
        alpha: inverse time constant α in (0, 1], per training iteration.

    Attributes:
        threshold: θ now, a buffer that :meth:`advance` changes in place:
            between a forward pass and its backward pass that is an error.

    Raises:
        InvalidValueError: a value breaks its rule.

    Example:
        >>> rule = Annealed(theta_0=1.0, theta_inf=3.0, alpha=0.5)
        >>> rule.advance()
        >>> rule()
        tensor(2.)
    """

    theta_inf: Tensor
    alpha: Tensor
    threshold: Tensor

    def __init__(self, theta_0: float, theta_inf: float, alpha: float) -> None:
        super().__init__(single("theta_0", theta_0))
        check_annealing(theta_0, theta_inf, alpha)
        self.register_buffer("theta_inf", torch.tensor(float(theta_inf)))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("threshold", self.theta_0.clone())

    def forward(self) -> Tensor:
        """θ now, ``[]``."""
        return self.threshold

    def final(self) -> Tensor:
        """θ∞."""
        return self.theta_inf

    @property
    def annealed(self) -> bool:
        """True."""
        return True

    def extra_repr(self) -> str:
        """Threshold and schedule in one line."""
        return (
            f"{super().extra_repr()}, theta_0={self.theta_0.item():.4g}, "
            f"theta_inf={self.theta_inf.item():.4g}, alpha={self.alpha.item():.4g}, "
            f"iteration={self.iteration.item()}"
        )

    def moved(self) -> None:
        """Set θ by Eq. 4."""
        self.threshold.copy_(threshold_at(self.iteration, self.theta_0, self.theta_inf, self.alpha))
