"""The learning rate as a pure function of the training iteration."""

from __future__ import annotations

import math


def cosine_factor(iteration: int, period: float) -> float:
    """Share of the initial learning rate (Eshraghian and Lu 2022, Eq. 28).

    η[γ] / η = ½ (1 + cos(π γ / period)). The published code steps this every
    iteration without restarting it, so after one period the rate climbs back
    along the cosine; the paper's text calls that warm restarts.

    Args:
        iteration: γ ≥ 0.
        period: in iterations, > 0 (10 epochs in the paper).

    Example:
        >>> [round(cosine_factor(step, period=100), 3) for step in (0, 50, 100, 150, 200)]
        [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    return 0.5 * (1 + math.cos(math.pi * iteration / period))
