"""What a network did: predictions, activity of its neurons, bits of its weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from bsnn_tha.functional.counts import spike_counts
from bsnn_tha.nn.binary import BinaryConv2d, BinaryLinear


def predict(spikes: Tensor) -> Tensor:
    """The class with the most output spikes; the lowest index wins a tie.

    Args:
        spikes: ``[time, batch, classes]``.

    Returns:
        ``[batch]``, int64.

    Example:
        >>> predict(torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]]))
        tensor([1])
    """
    return spike_counts(spikes).argmax(-1)


class Activity(NamedTuple):
    """Activity of one layer over all samples seen."""

    rate: float
    """Spikes per neuron and time step, in [0, 1]."""
    dead: float
    """Share of neurons, in [0, 1], that never fired for any sample."""
    spikes_per_sample: float
    """Spikes of the whole layer per sample."""


class ActivityMeter(Metric):
    """Counts the spikes of one layer, neuron by neuron, over many windows.

    A neuron is dead if it fires for no sample at any time step (Eshraghian and
    Lu 2022, Section 5.2). Under distributed training the counts of all
    processes are summed.

    Args:
        shape: of the layer's output for one sample, e.g. ``(16, 12, 12)``.

    Example:
        >>> meter = ActivityMeter((2,))
        >>> meter.update(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]))  # [time, batch, 2]
        >>> meter.compute()
        Activity(rate=0.5, dead=0.5, spikes_per_sample=2.0)
    """

    full_state_update = False
    counts: Tensor
    samples: Tensor
    steps: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("steps", torch.tensor(0), dist_reduce_fx="max")

    def update(self, spikes: Tensor) -> None:
        """Add a window, ``[time, batch, *shape]``."""
        self.counts += spikes.detach().sum((0, 1), dtype=self.counts.dtype)
        self.samples += spikes.shape[1]
        self.steps.fill_(spikes.shape[0])

    def compute(self) -> Activity:
        """Activity over everything seen since the last reset."""
        per_sample = self.counts.sum().item() / max(1, self.samples.item())
        neurons_and_steps = self.counts.numel() * max(1, self.steps.item())
        return Activity(
            rate=per_sample / neurons_and_steps,
            dead=(self.counts == 0).double().mean().item(),
            spikes_per_sample=per_sample,
        )


class WeightBits(NamedTuple):
    """Memory of a network's parameters, in bits."""

    binary: int
    """Binary weights, one bit each."""
    full_precision: int
    """All other parameters (biases, batch norm, float weights) as stored."""


def weight_bits(network: nn.Module) -> WeightBits:
    """Bits needed to store a network's parameters.

    Example:
        >>> weight_bits(nn.Sequential(BinaryLinear(700, 3000), BinaryLinear(3000, 20)))
        WeightBits(binary=2160000, full_precision=96640)
    """
    binary = {
        id(module.latent_weight)
        for module in network.modules()
        if isinstance(module, BinaryLinear | BinaryConv2d)
    }
    bits = {True: 0, False: 0}
    for parameter in network.parameters():
        is_binary = id(parameter) in binary
        bits[is_binary] += parameter.numel() * (1 if is_binary else 8 * parameter.itemsize)
    return WeightBits(bits[True], bits[False])


class SpikeTiming(NamedTuple):
    """How well one output neuron fires once, at a target step, over training."""

    share: float
    """Share of the last iterations with exactly one spike, on target."""
    first: int | None
    """First iteration with exactly one spike, on target; None if there was none."""


def spike_timing(
    spikes: Tensor, target_step: int, tolerance: int = 2, last: int = 300
) -> SpikeTiming:
    """Score the temporal coding task (Eshraghian and Lu 2022, Section 4.1).

    Args:
        spikes: of the output neuron, ``[iterations, time]``.
        target_step: the time step at which it should fire, from 0.
        tolerance: a spike this many steps away still counts.
        last: how many iterations at the end the share is taken over.

    Example:
        >>> spikes = torch.zeros(4, 100)
        >>> spikes[1, 76] = spikes[2, 75] = spikes[3, 75] = spikes[3, 20] = 1
        >>> spike_timing(spikes, target_step=75, last=2)
        SpikeTiming(share=0.5, first=1)
    """
    once = spikes.sum(1) == 1
    on_target = (spikes.argmax(1) - target_step).abs() <= tolerance
    hits = (once & on_target).nonzero().flatten()
    recent = hits >= len(spikes) - last
    share = recent.sum().item() / max(1, min(last, len(spikes)))
    return SpikeTiming(share, int(hits[0]) if len(hits) else None)
