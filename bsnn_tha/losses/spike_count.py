"""Squared error of spike counts: the papers on annealing and, as rates, on Rouser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.equations.counts import spike_counts, spike_rates
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.inputs import labels, signal
from bsnn_tha.nn.window import NetworkWindow


def spike_count_loss(
    spikes: Tensor, targets: Tensor, correct_rate: float = 0.8, incorrect_rate: float = 0.2
) -> Tensor:
    """Squared error of spike counts (Eshraghian and Lu 2022, Eq. 30).

    The right class should fire in ``correct_rate`` of the T steps, every other
    class in ``incorrect_rate``:

        L = 1 / (T · batch · classes) Σ_batch Σ_j (c_j − Σ_t z_j[t])².

    Eq. 30 as printed sums an error of every step, though the paper speaks of
    counts; the published code (and this) squares the error of counts and divides
    by batch, classes and T, which the published learning rates were searched
    with. It is T times the mean squared error of spike rates, Rouser's loss: the
    same to Adam.

    Args:
        spikes: ``[time, batch, classes]``.
        targets: class indices, ``[batch]``.
        correct_rate, incorrect_rate: target shares of steps, in [0, 1].

    Raises:
        InvalidValueError: spikes of another number of dimensions.

    Example:
        >>> spikes = torch.zeros(10, 1, 2)
        >>> spikes[:8, 0, 1] = 1.0
        >>> spike_count_loss(spikes, torch.tensor([1]))  # the other class: 0, not 2
        tensor(0.2000)
        >>> spike_count_loss(torch.tensor([1]), spikes)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: spikes must be [time, batch, classes], but are of shape \
[1]; the targets come second
    """
    spikes = signal("spikes", spikes)
    if spikes.dim() != 3:
        raise InvalidValueError(
            f"spikes must be [time, batch, classes], but are of shape {list(spikes.shape)}; the "
            "targets come second"
        )
    steps, _, classes = spikes.shape
    counts = spike_counts(spikes)
    right = F.one_hot(labels(targets), classes).bool()
    wanted = torch.full_like(counts, incorrect_rate * steps)
    return F.mse_loss(counts, wanted.masked_fill_(right, correct_rate * steps)) / steps


@dataclass(frozen=True)
class SpikeCountLoss:
    """:func:`spike_count_loss` of the output spikes.

    Raises:
        InvalidValueError: a rate outside [0, 1].
    """

    needs_membranes: ClassVar[bool] = False
    classifies: ClassVar[bool] = True

    correct_rate: float = 0.8
    incorrect_rate: float = 0.2

    def __post_init__(self) -> None:
        for name in ("correct_rate", "incorrect_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidValueError(
                    f"{name} must be in [0, 1], but got {name}={getattr(self, name):g}"
                )

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        spikes = window.fired_spikes()
        return spike_count_loss(spikes, targets, self.correct_rate, self.incorrect_rate)

    def scores(self, window: NetworkWindow) -> Tensor:
        """Spike rates, ``[batch, classes]``."""
        return spike_rates(window.fired_spikes())
