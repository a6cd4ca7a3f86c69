"""What a network costs to run, in the figures that NeuroBench compares networks by.

Names and definitions follow NeuroBench (Yik et al. 2025, "The neurobench
framework for benchmarking neuromorphic computing algorithms and systems") and
its harness:

=======================  ==================================================  ==========
figure                   definition                                          unit
=======================  ==================================================  ==========
footprint                memory of parameters and buffers                    bytes
connection sparsity      share of weights that are zero                      [0, 1]
activation sparsity      share of outputs of neurons that are zero, over     [0, 1]
                         all layers, samples and time steps
effective operations     products of a nonzero input and a nonzero weight    per sample
dense operations         products there would be if nothing were zero        per sample
=======================  ==================================================  ==========

Effective operations are accumulates (ACs) where a layer's inputs are all −1, 0
or 1, as spikes are, and multiply-accumulates (MACs) otherwise.

**An execution is one sample's whole window here**: all T time steps. The
harness calls models with whole windows too and divides by samples; papers that
give a figure for each time step give this one divided by T.

Weights of convolutions and of fully connected layers count, as in the harness;
biases, batch norm, pooling and the neurons themselves do not. The network
counted is that of the notation: an image that stays the same is seen anew at
every time step, recurrent weights see the spikes of the last step as well, and a
convolution fills its whole map before it is pooled, even where
:mod:`bsnn_tha.nn.network` computes less.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from bsnn_tha.equations.counts import neuron_counts
from bsnn_tha.nn.weights.derived import weight_of

Synapse = nn.Linear | nn.Conv2d
"""A layer of weights, quantized ones included."""


def footprint(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers, as they are held for training.

    Quantized layers hold their latent weights in full precision;
    :func:`bsnn_tha.observe.metrics.weight_bits` is what the quantized ones need.

    Example:
        >>> footprint(nn.Linear(10, 2))
        88
    """
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


def connection_sparsity(network: nn.Module) -> float:
    """Share of the weights between layers that are zero, in [0, 1].

    Always 0 for binary weights. Biases are no connections.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.weight.data.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
        >>> connection_sparsity(layer)
        0.25
    """
    weights = [weight_of(m) for m in network.modules() if isinstance(m, Synapse)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / max(1, sum(weight.numel() for weight in weights))


@torch.no_grad()
def effective_operations(synapse: Synapse, counts: Tensor) -> int:
    """Operations on nonzero inputs and nonzero weights.

    Each nonzero input i meets the nonzero weights that leave it, so that
    Σ_i counts[i] · fan_out[i] needs no input but its counts. In a convolution
    the fan-out depends on the place: inputs at the border meet fewer weights.

    Args:
        synapse: a fully connected layer or a convolution.
        counts: how often each input was nonzero, one sample's shape: ``[features]``
            (or any other for as many) or ``[channels, height, width]``. A fully
            connected layer with a weight for each channel reads the means of maps:
            any input of a map meets that weight.

    Example:
        A spike in the middle of 3 × 3 meets all 2 × 2 weights of 5 channels, a
        spike in a corner one weight of each.

        >>> counts = torch.tensor([[[1, 0, 0], [0, 1, 0], [0, 0, 0]]])
        >>> effective_operations(nn.Conv2d(1, 5, 2), counts)
        25
    """
    return _operations(synapse, weight_of(synapse) != 0, counts)


@torch.no_grad()
def dense_operations(synapse: Synapse, input_shape: tuple[int, ...]) -> int:
    """Operations of one time step if no input and no weight were zero.

    Args:
        synapse: a fully connected layer or a convolution.
        input_shape: of one sample.

    Example:
        >>> dense_operations(nn.Conv2d(1, 16, 5), (1, 28, 28))  # 16 · 24² maps, 5² weights
        230400
    """
    weight = weight_of(synapse)
    return _operations(synapse, torch.ones_like(weight, dtype=torch.bool), torch.ones(input_shape))


def _operations(synapse: Synapse, present: Tensor, counts: Tensor) -> int:
    # On the CPU, where there is always float64: exact up to 2^53.
    counts = counts.cpu().double()
    if isinstance(synapse, nn.Linear):
        fan_out = present.sum(0).cpu().double()
        # One row per input, or per map whose mean is an input.
        return int(fan_out @ counts.reshape(synapse.in_features, -1).sum(1))
    # Channels of a group share their fan-out: as one filter per group.
    fan_out = present.unflatten(0, (synapse.groups, -1)).sum(1).cpu().double()
    maps = F.conv2d(
        counts.unsqueeze(0),
        fan_out,
        None,
        synapse.stride,
        synapse.padding,
        groups=synapse.groups,
    )
    return int(maps.sum())


class InputActivity(NamedTuple):
    """What a network was given."""

    counts: Tensor
    """How often each input was nonzero, int64."""
    graded: bool
    """Whether there were other values than −1, 0 and 1."""
    still: bool
    """Whether all time steps were given the same."""


class InputMeter(Metric):
    """Counts the nonzero values a network is given, input by input.

    Whether they are graded is found from the first values that are not all
    zero, and taken to hold for all that follow.

    Args:
        shape: of one sample at one time step.

    Example:
        >>> meter = InputMeter((2,))
        >>> meter.update(torch.tensor([[0.0, 0.5]]), num_steps=100)  # [batch, 2]
        >>> meter.compute()
        InputActivity(counts=tensor([  0, 100]), graded=True, still=True)
    """

    full_state_update = False
    counts: Tensor
    graded: Tensor
    moving: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("graded", torch.tensor(0), dist_reduce_fx="max")
        self.add_state("moving", torch.tensor(0), dist_reduce_fx="max")
        self._undecided = True
        self._spikes = False

    def update(self, input: Tensor, num_steps: int | None = None) -> None:
        """Add a window.

        Args:
            input: ``[time, batch, *shape]``; or, with ``num_steps``, a constant
                input ``[batch, *shape]``.
            num_steps: for how many time steps a constant input is seen.
        """
        window = input.detach() if num_steps is None else input.detach().unsqueeze(0)
        if num_steps is None:
            self.moving.fill_(1)
        # The look at every value costs more than the count: once is enough.
        if self._undecided and window.any():
            signs = window.sign()
            self.graded.fill_(not torch.equal(signs, window))
            self._spikes = torch.equal(signs.abs_(), window)
            self._undecided = False
        nonzero = window if self._spikes else window.sign().abs_()
        self.counts += neuron_counts(nonzero) * (num_steps or 1)

    def compute(self) -> InputActivity:
        """Everything seen since the last reset."""
        return InputActivity(self.counts, bool(self.graded), not self.moving)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._undecided, self._spikes = True, False
