"""Norms of currents, chosen by name or of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from bsnn_tha.choices import Axis
from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep, ThresholdDependentBatchNorm

NormChoice = str | Callable[..., nn.Module]
"""A name of :data:`NORMS`, or what makes a norm from its arguments: a class or a function."""

NORMS: Axis[nn.Module] = Axis(
    "norm",
    {"per-step": BatchNormPerStep, "tdbn": ThresholdDependentBatchNorm, "none": None},
    makes=nn.Module,
)
"""Norms by name. One of one's own is a module that is called as these are:
``norm(current, repeats=1)``, with a window ``[time, batch, C, H, W]``, or with one step
``[batch, C, H, W]`` that stands for ``repeats`` equal ones; H and W of a fully connected
layer are 1. Where it takes statistics over the
whole window it says ``needs_whole_window = True``."""


def make_norm(
    norm: NormChoice,
    num_features: int,
    scale: float,
    norm_options: Mapping[str, Any] | None = None,
) -> nn.Module | None:
    """The normalisation that a configuration names; None for none.

    Args:
        norm: ``"per-step"``, ``"tdbn"``, ``"none"``, ``module:Class`` or a class.
        num_features: channels C.
        scale: α V_th, for a norm that takes it, as ``"tdbn"`` does.
        norm_options: its other arguments, e.g. ``momentum``.

    Raises:
        InvalidValueError: there is no such norm, or it has no such setting.

    Example:
        >>> make_norm("tdbn", 16, scale=0.5, norm_options={"momentum": 0.2}).momentum
        0.2
    """
    made: nn.Module | None = NORMS.make(
        norm, norm_options, given={"num_features": num_features, "scale": scale}
    )
    return made
