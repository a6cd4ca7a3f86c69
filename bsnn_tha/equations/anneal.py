r"""Threshold annealing (Eshraghian and Lu 2022, Eq. 3 and 4).

Once per training iteration γ every threshold relaxes towards its final value,

    θ[γ+1] = θ[γ] + α (θ∞ − θ[γ]),   θ[0] = θ0,                        (Eq. 4)

whose solution is a pure function of the iteration,

    θ[γ] = θ∞ − (θ∞ − θ0) (1 − α)^γ.

======  ============================================  ===============
symbol  meaning                                       range
======  ============================================  ===============
γ       training iteration (one minibatch)            integer ≥ 0
θ0      initial threshold                             θ0 > 0
θ∞      final threshold                               θ∞ > θ0
α       inverse time constant, per iteration          0 < α ≤ 1
======  ============================================  ===============

Thresholds have the unit of the membrane potential. The paper's text writes
α = exp(−1/τ); a relaxation with time constant τ iterations has
1 − α = exp(−1/τ), which is what Eq. 4 does and what is used here.
"""

from __future__ import annotations

import math
from typing import Any, overload

import torch
from torch import Tensor

from bsnn_tha.errors import InvalidValueError


@overload
def threshold_at(step: int, theta_0: float, theta_inf: float, alpha: float) -> float: ...
@overload
def threshold_at(step: Tensor, theta_0: Tensor, theta_inf: Tensor, alpha: Tensor) -> Tensor: ...
def threshold_at(step: Any, theta_0: Any, theta_inf: Any, alpha: Any) -> Any:
    """Threshold after ``step`` training iterations: Eq. 4 in closed form.

    Args:
        step: training iteration γ, an integer ≥ 0.
        theta_0: initial threshold θ0.
        theta_inf: final threshold θ∞. Equal to ``theta_0`` (with ``alpha=0``)
            it stands for a fixed threshold.
        alpha: inverse time constant α per iteration, in [0, 1].

    All four may be numbers (the result is a float, computed in double
    precision) or tensors that broadcast together (the result is a tensor on
    their device; nothing is copied to the host).

    Example:
        >>> threshold_at(0, theta_0=5.0, theta_inf=50.0, alpha=5e-3)
        5.0
        >>> round(threshold_at(400, theta_0=5.0, theta_inf=50.0, alpha=5e-3), 3)
        43.94
        >>> threshold_at(7, theta_0=5.0, theta_inf=50.0, alpha=1.0)
        50.0
    """
    # (1 − α)^γ − 1 through expm1 and log1p: with α near 1e-5 the plain power
    # in float32 would lose three digits after 10,000 iterations. xlog1py gives
    # 0 at γ = 0 even for α = 1, where γ·log(1 − α) alone would be 0 · (−∞).
    if isinstance(step, Tensor):
        remaining = torch.special.xlog1py(step, -alpha)
        return torch.lerp(theta_0, theta_inf, -torch.expm1(remaining))
    if alpha == 1:
        return float(theta_inf if step else theta_0)
    return theta_0 - (theta_inf - theta_0) * math.expm1(step * math.log1p(-alpha))


def check_annealing(theta_0: float, theta_inf: float, alpha: float) -> None:
    """Raise unless 0 < θ0 < θ∞ and 0 < α ≤ 1.

    Raises:
        InvalidValueError: naming the rule, the value and the way out.

    Example:
        >>> check_annealing(5.0, 50.0, 5e-3)
        >>> check_annealing(5.0, 50.0, 1.5)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: alpha must be in (0, 1], but got alpha=1.5
    """
    check_threshold(theta_0)
    if not theta_inf > theta_0 or not math.isfinite(theta_inf):
        raise InvalidValueError(
            f"theta_inf must be greater than theta_0={theta_0:g}, but got "
            f"theta_inf={theta_inf:g}; for a fixed threshold leave out theta_inf and alpha"
        )
    if not 0 < alpha <= 1:
        raise InvalidValueError(f"alpha must be in (0, 1], but got alpha={alpha:g}")


def check_threshold(theta_0: float | Tensor, name: str = "theta_0") -> None:
    """Raise unless θ0 is a finite number above 0, or a tensor of such numbers.

    Args:
        theta_0: θ0.
        name: by which it was given.

    Raises:
        InvalidValueError: naming the rule and the value.
    """
    values = torch.as_tensor(theta_0)
    wrong = values[~((values > 0) & values.isfinite())]
    if wrong.numel():
        raise InvalidValueError(
            f"{name} must be a finite number above 0, but got {name}={wrong[0].item():g}"
        )
