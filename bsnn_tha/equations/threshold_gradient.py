"""Which part of a spike's gradient reaches the threshold.

A spike z = 1[u ≥ θ] depends on u − θ alone, so the surrogate s(u, centre) that
stands in for ∂z/∂u also gives ∂z/∂θ = −s: one path for both. LT-SNN finds that
a threshold learned so is unstable, and gives θ a path of its own (Eq. 9 to 11):
the same surrogate, reshaped by a gradient penalty window p, from fired neurons only,

    ∂z/∂θ = −s(u, centre) p(u − θ) 1[u ≥ θ].

The window and the restriction to fired neurons are independent here. The part of
θ's gradient that comes through a reset by subtraction stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from bsnn_tha.errors import InvalidValueError

Window = Literal["none", "sigmoid", "arctan", "triangle", "piecewise"]
WINDOWS: tuple[Window, ...] = get_args(Window)


@dataclass(frozen=True)
class ThresholdGradient:
    """What −∂z/∂u is multiplied by to give ∂z/∂θ, as a function of x = u − θ.

    LT-SNN's separate gradient path is ``ThresholdGradient("sigmoid",
    fired_only=True)``. Of the other windows in its Table 11 the paper gives the
    names only; the formulas are our choice of the natural ones in [0, 1], all
    at x per unit of membrane potential:

    =============  ===========================  ==============
    window         p(x)                         from
    =============  ===========================  ==============
    ``none``       1                            no window
    ``sigmoid``    1 / (1 + exp(−x))            Eq. 10
    ``arctan``     ½ + arctan(x) / π            ours
    ``triangle``   max(0, 1 − |x|)              ours
    ``piecewise``  min(max(x + ½, 0), 1)        ours
    =============  ===========================  ==============

    Args:
        window: p, one of the names above.
        fired_only: whether neurons with u < θ give θ nothing (Eq. 11).

    Raises:
        InvalidValueError: an unknown window.

    Example:
        >>> separate = ThresholdGradient("sigmoid", fired_only=True)
        >>> separate(torch.tensor([-0.1, 0.0, 2.0]))
        tensor([0.0000, 0.5000, 0.8808])
    """

    window: Window = "none"
    fired_only: bool = False

    def __post_init__(self) -> None:
        if self.window not in WINDOWS:
            raise InvalidValueError(
                f"window must be one of {', '.join(WINDOWS)}, but got {self.window!r}"
            )

    def __call__(self, distance: Tensor) -> Tensor:
        """The factor p(x), and 0 where a neuron has not fired if that is asked for.

        Args:
            distance: x = u − θ, any shape.

        Returns:
            The factor, in [0, 1], like ``distance``; NaN where a window gets NaN.
        """
        if self.window == "sigmoid":
            factor = torch.sigmoid(distance)
        elif self.window == "arctan":
            factor = distance.atan() / math.pi + 0.5
        elif self.window == "triangle":
            factor = (1 - distance.abs()).clamp_min(0)
        elif self.window == "piecewise":
            factor = (distance + 0.5).clamp(0, 1)
        else:
            factor = torch.ones_like(distance)
        return factor * (distance >= 0) if self.fired_only else factor


SHARED = ThresholdGradient()
"""One path for membrane and threshold, ∂z/∂θ = −s(u, centre)."""
