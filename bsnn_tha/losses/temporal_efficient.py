"""Temporal efficient training, regularized towards the thresholds (LT-SNN)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.equations.counts import spike_rates
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.inputs import labels, signal
from bsnn_tha.nn.window import NetworkWindow


def tet_loss(outputs: Tensor, targets: Tensor, omega: Tensor, beta: float = 0.45) -> Tensor:
    """Cross-entropy and regularizer, each at every time step (LT-SNN, Eq. 12).

        L = β · mean_t CE(O(t), y) + (1 − β) · mean_t MSE(O(t), Ω)

    Args:
        outputs: O, the output spikes, ``[time, batch, classes]``.
        targets: class indices y, ``[batch]``.
        omega: Ω, what outputs are drawn to, a scalar: the mean threshold of
            all layers (Eq. 13).
        beta: β in [0, 1].

    Example:
        >>> outputs = torch.zeros(3, 1, 2)
        >>> tet_loss(outputs, torch.tensor([0]), torch.tensor(1.0), beta=0.5)
        tensor(0.8466)
    """
    outputs, steps = signal("outputs", outputs), len(outputs)
    # Mean over steps and samples at once: every step has as many samples.
    entropy = F.cross_entropy(outputs.flatten(0, 1), labels(targets).repeat(steps))
    return beta * entropy + (1 - beta) * (outputs - omega).square().mean()


@dataclass(frozen=True)
class TemporalEfficientLoss:
    """:func:`tet_loss` of the output spikes.

    Args:
        mean_threshold: gives Ω as it is now; no gradient passes through it.
        beta: β in [0, 1]; the paper has 0.45.

    Raises:
        InvalidValueError: β outside [0, 1].
    """

    needs_membranes: ClassVar[bool] = False
    classifies: ClassVar[bool] = True

    mean_threshold: Callable[[], Tensor]
    beta: float = 0.45

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise InvalidValueError(f"beta must be in [0, 1], but got beta={self.beta:g}")

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        omega = self.mean_threshold().detach()
        return tet_loss(window.fired_spikes(), targets, omega, self.beta)

    def scores(self, window: NetworkWindow) -> Tensor:
        """Spike rates, ``[batch, classes]``."""
        return spike_rates(window.fired_spikes())


def mean_threshold(thresholds: list[Tensor]) -> Tensor:
    """Ω: the mean over layers of their thresholds, each a mean over neurons (Eq. 13).

    Example:
        >>> mean_threshold([torch.tensor(1.0), torch.tensor([2.0, 4.0])])
        tensor(2.)
    """
    return torch.stack([threshold.detach().mean() for threshold in thresholds]).mean()
