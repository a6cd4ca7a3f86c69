"""Dropout that spares the neurons with high membrane potentials (LTMD, Eq. 13)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError


def drop_probabilities(membranes: Tensor, rate: float) -> Tensor:
    """Each neuron's probability to be dropped (LTMD, Eq. 13).

        p_i = min(1, λ (u_max − u_i)),   λ such that their mean is ``rate``

    over the neurons of a layer, for each sample and time step. Where no p_i
    reaches 1 that is Eq. 13, λ = rate / (u_max − u_mean). Where Eq. 13 exceeds
    1, which no probability can, its mean after clipping would fall short of the
    rate; the others then take up what is missing, the highest neurons last.
    Equal potentials have equal probabilities, the rate.

    Args:
        membranes: u, ``[..., neurons]``.
        rate: in [0, 1).

    Returns:
        p, of the same shape; no gradient.

    Example:
        >>> drop_probabilities(torch.tensor([0.0, 1.0, 2.0]), 0.5)
        tensor([1.0000, 0.5000, 0.0000])
        >>> drop_probabilities(torch.tensor([-5.0, 1.0, 2.0]), 0.5)  # not 1.31, 0.19, 0
        tensor([1.0000, 0.5000, 0.0000])
        >>> drop_probabilities(torch.tensor([0.0, 1.0, 2.0]), 0.9)
        tensor([1.0000, 1.0000, 0.7000])
        >>> drop_probabilities(torch.ones(2), 0.5)
        tensor([0.5000, 0.5000])
    """
    u = membranes.detach()
    depth = u.amax(-1, keepdim=True) - u
    neurons, wanted = depth.shape[-1], rate * depth.shape[-1]
    # λ by filling up: with the m deepest neurons at 1 the others need
    # λ = (wanted − m) / (their depths' sum). The right m is the first whose λ
    # takes no further neuron past 1.
    deepest = depth.sort(-1, descending=True).values
    others = deepest.flip(-1).cumsum(-1).flip(-1)  # Σ of depths from the m-th on
    filled = torch.arange(neurons, dtype=depth.dtype, device=depth.device)
    slopes = (wanted - filled) / others
    m = (slopes * deepest <= 1).to(torch.uint8).argmax(-1, keepdim=True)
    chances = (slopes.gather(-1, m) * depth).clamp(0, 1)
    # The highest neurons, at depth 0, are dropped only if all others do not suffice.
    highest = depth == 0
    below = (~highest).sum(-1, keepdim=True).to(depth.dtype)
    left = (wanted - below) / (neurons - below)
    return torch.where(left >= 0, torch.where(highest, left, 1.0), chances).to(depth.dtype)


class ModerateDropout(nn.Module):
    """Drops neurons of a fully connected layer by :func:`drop_probabilities`.

    Drawn anew for each sample and time step while training. What is left is divided by
    its own probability to be kept, 1 − p_i, so that each neuron's expected output is its
    output; one factor for all would favour the high potentials, which are kept more often.
    (The paper does not say how it scales; its code divides so too. That draws one mask for a
    window, from outputs averaged over time, and takes their range over the whole batch.)

    Args:
        rate: mean share of neurons that are dropped, in [0, 1).

    Raises:
        InvalidValueError: a rate outside [0, 1).

    Example:
        >>> dropout = ModerateDropout(0.5)
        >>> outputs = torch.ones(1, 2)
        >>> dropout(outputs, membranes=torch.tensor([[0.0, 1.0]]))  # p is 1 and 0
        tensor([[0., 1.]])
        >>> dropout.eval()(outputs, membranes=torch.tensor([[0.0, 1.0]]))
        tensor([[1., 1.]])
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise InvalidValueError(f"rate must be in [0, 1), but got rate={rate:g}")
        self.rate = rate

    def forward(self, outputs: Tensor, membranes: Tensor) -> Tensor:
        """Outputs with some dropped.

        Args:
            outputs: what the neurons hand on, ``[..., neurons]``.
            membranes: their potentials u, of the same shape.
        """
        if not self.training or not self.rate:
            return outputs
        chances = drop_probabilities(membranes, self.rate)
        kept = torch.rand_like(chances) >= chances
        # Where p_i = 1 nothing is kept, whatever it would be divided by.
        return outputs * kept / torch.where(kept, 1 - chances, 1.0)

    def extra_repr(self) -> str:
        """The rate, for ``print(network)``."""
        return f"rate={self.rate}"
