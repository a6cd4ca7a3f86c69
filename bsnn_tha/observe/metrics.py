"""What a network did: predictions, activity of its neurons, bits of its weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from bsnn_tha.equations.counts import neuron_counts, spike_counts
from bsnn_tha.equations.surrogate import Surrogate
from bsnn_tha.nn.weights.quantized import QuantizedConv2d, QuantizedLinear


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
    """What the neurons of one layer did over all samples seen.

    A neuron is dead if it fires for no sample at any time step (Eshraghian and
    Lu 2022, Section 5.2), and saturated if it fires at every time step of every
    sample: neither tells one sample from another.
    """

    counts: Tensor
    """Spikes of each neuron, int64."""
    samples: int
    """Samples seen."""
    presentations: int
    """Time steps seen, over all samples: T for each."""

    @property
    def rate(self) -> float:
        """Spikes per neuron and time step, in [0, 1]."""
        chances = self.counts.numel() * max(1, self.presentations)
        return self.counts.sum().item() / chances

    @property
    def dead(self) -> float:
        """Share of neurons, in [0, 1], that never fired."""
        return (self.counts == 0).double().mean().item()

    @property
    def saturated(self) -> float:
        """Share of neurons, in [0, 1], that always fired."""
        always = self.counts == max(1, self.presentations)
        return always.double().mean().item()

    @property
    def spikes_per_sample(self) -> float:
        """Spikes of the whole layer per sample."""
        return self.counts.sum().item() / max(1, self.samples)


class ActivityMeter(Metric):
    """Counts the spikes of one layer, neuron by neuron, over many windows.

    Under distributed training the counts of all processes are summed.

    Args:
        shape: of the layer's output for one sample, e.g. ``(16, 12, 12)``.

    Example:
        >>> meter = ActivityMeter((3,))
        >>> meter.update(torch.tensor([[[1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0]]]))
        >>> activity = meter.compute()
        >>> activity.counts
        tensor([2, 0, 1])
        >>> activity.rate, activity.spikes_per_sample
        (0.5, 3.0)
        >>> round(activity.dead, 3), round(activity.saturated, 3)
        (0.333, 0.333)
    """

    full_state_update = False
    counts: Tensor
    samples: Tensor
    presentations: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("presentations", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, spikes: Tensor, continued: bool = False) -> None:
        """Add a window.

        Args:
            spikes: ``[time, batch, *shape]``.
            continued: these are later time steps of the samples before, no new
                samples.
        """
        steps, batch = spikes.shape[:2]
        self.counts += neuron_counts(spikes)
        self.samples += 0 if continued else batch
        self.presentations += steps * batch

    def compute(self) -> Activity:
        """Activity over everything seen since the last reset."""
        return Activity(self.counts, int(self.samples), int(self.presentations))


def surrogate_mass(membranes: Tensor, centre: Tensor, surrogate: Surrogate) -> Tensor:
    """How much gradient a layer lets through: the mean of ∂z/∂u.

    The mean of s(u, centre) over neurons, samples and time steps. It is s(centre, centre),
    1 for the fast sigmoid, if every membrane always is at the surrogate's
    centre, and goes to 0 as membranes move away: next to no gradient then
    reaches the weights, whether the layer is silent or fires.

    Args:
        membranes: u, ``[time, ...]``.
        centre: where the surrogate is centred, broadcasts against one step.
        surrogate: a shape from :mod:`bsnn_tha.equations.surrogate`.

    Returns:
        0-dimensional, at least float32, detached.

    Example:
        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> membranes = torch.tensor([[1.0, 1.1]])  # one step of two neurons
        >>> surrogate_mass(membranes, torch.tensor(1.0), FastSigmoid(slope=10.0))
        tensor(0.6250)
    """
    membranes = membranes.detach()
    centre = centre.detach().to(membranes.dtype)
    wide = torch.promote_types(membranes.dtype, torch.float32)
    # Step by step: the whole window's surrogate would be one more tensor of its size.
    return torch.stack([surrogate(u, centre).mean(dtype=wide) for u in membranes]).mean()


class SurrogateMeter(Metric):
    """Surrogate mass of one layer over many windows, see :func:`surrogate_mass`.

    Under distributed training it is the mean over the samples of all processes.

    Example:
        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> meter, theta = SurrogateMeter(), torch.tensor(1.0)
        >>> meter.update(torch.ones(4, 2, 3), theta, FastSigmoid())
        >>> meter.compute()
        1.0
    """

    full_state_update = False
    mass: Tensor
    presentations: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("mass", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("presentations", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, membranes: Tensor, centre: Tensor, surrogate: Surrogate) -> None:
        """Add a window of membranes, ``[time, batch, ...]``."""
        presentations = membranes.shape[0] * membranes.shape[1]
        self.mass += surrogate_mass(membranes, centre, surrogate) * presentations
        self.presentations += presentations

    def compute(self) -> float:
        """The mean over everything seen since the last reset; 0 if that is nothing."""
        return self.mass.item() / max(1, int(self.presentations))


class SampleMean(Metric):
    """The mean of a figure over samples, from its means over batches, also across processes.

    Example:
        >>> mean = SampleMean()
        >>> mean.update(torch.tensor(1.0), samples=3)
        >>> mean.update(torch.tensor(5.0), samples=1)
        >>> mean.compute()
        tensor(2.)
    """

    full_state_update = False
    total: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, value: Tensor, samples: int) -> None:
        """Add the mean over so many samples."""
        self.total += value * samples
        self.samples += samples

    def compute(self) -> Tensor:
        """The mean over all of them."""
        return self.total / self.samples


class WeightBits(NamedTuple):
    """Memory of a network's parameters, in bits."""

    quantized: int
    """Quantized weights, as many bits each as their quantizer needs: one if binary."""
    full_precision: int
    """All other parameters (biases, batch norm, float weights) as stored."""


def weight_bits(network: nn.Module) -> WeightBits:
    """Bits needed to store a network's parameters.

    Example:
        >>> from bsnn_tha import BinaryLinear
        >>> weight_bits(nn.Sequential(BinaryLinear(700, 3000), BinaryLinear(3000, 20)))
        WeightBits(quantized=2160000, full_precision=96640)
    """
    bits_each = {
        id(module.latent_weight): module.quantizer.bits
        for module in network.modules()
        if isinstance(module, QuantizedLinear | QuantizedConv2d)
    }
    quantized = full_precision = 0
    for parameter in network.parameters():
        if id(parameter) in bits_each:
            quantized += parameter.numel() * bits_each[id(parameter)]
        else:
            full_precision += parameter.numel() * 8 * parameter.itemsize
    return WeightBits(quantized, full_precision)


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
