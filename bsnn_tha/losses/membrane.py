"""Squared error of the output membrane against a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.inputs import signal
from bsnn_tha.nn.window import NetworkWindow


def membrane_loss(
    membranes: Tensor, target: Tensor, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Squared error of the output membrane (Eshraghian and Lu 2022, Eq. 29).

    Args:
        membranes, target: ``[time, batch, outputs]``.
        reduction: over time, ``"mean"`` as in the published notebook (which
            the published learning rate belongs to) or ``"sum"`` as in Eq. 29.
            Batch and outputs are averaged.

    Example:
        >>> import torch
        >>> membranes = torch.tensor([1.0, 3.0]).view(2, 1, 1)
        >>> membrane_loss(membranes, torch.zeros(2, 1, 1), "sum")
        tensor(10.)
    """
    error = F.mse_loss(signal("membranes", membranes), signal("target", target))
    return error * len(target) if reduction == "sum" else error


@dataclass(frozen=True)
class MembraneLoss:
    """:func:`membrane_loss` of the output membranes.

    Raises:
        InvalidValueError: a reduction other than ``"mean"`` and ``"sum"``.
    """

    needs_membranes: ClassVar[bool] = True
    classifies: ClassVar[bool] = False

    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise InvalidValueError(
                f"reduction must be 'mean' or 'sum', but got reduction={self.reduction!r}"
            )

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        return membrane_loss(window.recorded_membranes(), targets, self.reduction)

    def scores(self, window: NetworkWindow) -> Tensor:
        """None: a trace is no class."""
        raise NotImplementedError("a membrane trace has no classes to score")
