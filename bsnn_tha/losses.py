"""Losses on what the output neurons do over a window.

Each is a frozen dataclass called with ``(window, targets)``, where the window
is the network's output (spikes ``[time, batch, outputs]``, membranes likewise
where ``needs_membranes`` says so). It returns a scalar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.network import NetworkWindow


class Loss(Protocol):
    """A scalar from a window and its targets."""

    needs_membranes: ClassVar[bool]

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class SpikeCountLoss:
    """Squared error of spike counts (Eshraghian and Lu 2022, Eq. 30).

    The right class should fire in ``correct_rate`` of the T steps, every other
    class in ``incorrect_rate``:

        L = 1 / (T · batch · outputs) Σ_batch Σ_j (c_j − Σ_t z_j[t])².

    The paper sums; the published code (and this) divides by batch, outputs and
    T, which the published learning rates were searched with.

    Args:
        correct_rate: target share of steps for the right class, in [0, 1].
        incorrect_rate: for the other classes, in [0, 1].

    Example:
        >>> spikes = torch.zeros(10, 1, 2)
        >>> spikes[:8, 0, 1] = 1.0
        >>> SpikeCountLoss()(NetworkWindow(spikes, None, ()), torch.tensor([1]))
        tensor(0.2000)
    """

    needs_membranes: ClassVar[bool] = False

    correct_rate: float = 0.8
    incorrect_rate: float = 0.2

    def __post_init__(self) -> None:
        for name in ("correct_rate", "incorrect_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidValueError(
                    f"{name} must be in [0, 1], but got {name}={getattr(self, name):g}"
                )

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        steps, _, outputs = window.spikes.shape
        counts = window.spikes.sum(0)
        right = F.one_hot(targets, outputs).bool()
        wanted = torch.where(right, self.correct_rate * steps, self.incorrect_rate * steps)
        return F.mse_loss(counts, wanted.to(counts.dtype)) / steps


@dataclass(frozen=True)
class MembraneLoss:
    """Squared error of the output membrane (Eshraghian and Lu 2022, Eq. 29).

    Args:
        reduction: over time, ``"mean"`` as in the published notebook (which
            the published learning rate belongs to) or ``"sum"`` as in Eq. 29.
            Batch and outputs are averaged.

    Example:
        >>> trace = torch.tensor([1.0, 3.0]).view(2, 1, 1)
        >>> window = NetworkWindow(torch.zeros(2, 1, 1), trace, ())
        >>> MembraneLoss("sum")(window, torch.zeros(2, 1, 1))
        tensor(10.)
    """

    needs_membranes: ClassVar[bool] = True

    reduction: Literal["mean", "sum"] = "mean"

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        assert window.membranes is not None
        error = F.mse_loss(window.membranes, targets)
        return error * len(targets) if self.reduction == "sum" else error
