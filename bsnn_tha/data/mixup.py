"""Mixup: blends of two training samples, and of their classes' losses (Zhang et al. 2018).

It belongs to the training step, unlike the changes of :mod:`bsnn_tha.data.augment`: a blend has
two classes, and the loss is to hear of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixup:
    r"""How far every sample of a batch is blended with the one before it.

        x̃_i = λ · x_i + (1 − λ) · x_{i−1},    L̃ = λ · L(y) + (1 − λ) · L(y before)

    λ is one number for the batch, as in the authors' code, since losses are means over it: so any
    loss is mixed as it stands, and where it is linear in the target, as cross-entropy is, L̃ is the
    loss of soft labels. Batches are shuffled, so that the sample before is one drawn at random.

    Args:
        share: λ in [½, 1], the sample's own part; 1 changes nothing.

    Example:
        >>> half = Mixup(0.5)
        >>> half.samples(torch.tensor([[0.0], [4.0]]))
        tensor([[2.],
                [2.]])
        >>> half.loss(lambda labels: (labels[0] - 3.0).square(), torch.tensor([1, 3]))
        tensor(2.)
    """

    share: float = 1.0

    @classmethod
    def drawn(cls, a: float) -> Mixup:
        """With λ ~ Beta(a, a), from torch's generator of the CPU; with nothing where ``a`` is 0.

        Of λ and 1 − λ the larger one is taken. That leaves the blends as likely as they were, for
        neither sample of a pair is the first, and a blend's heavier class is the sample's own.

        Args:
            a: ≥ 0. The higher, the more alike the two parts are; 1 makes all equally likely.

        Example:
            >>> Mixup.drawn(0.0), 0.5 <= Mixup.drawn(1.0).share <= 1
            (Mixup(share=1.0), True)
        """
        if not a:
            return cls()
        # λ = g / (g + g′) of two from Gamma(a), which is Gamma(a + 1) · U^(1/a). As logarithms:
        # the numbers themselves underflow, and torch's Beta then gives ½ where λ is 0 or 1.
        gamma = torch.distributions.Gamma(torch.tensor(a + 1.0, dtype=torch.float64), 1.0)
        logarithms = gamma.sample((2,)).log() + torch.rand(2, dtype=torch.float64).log() / a
        return cls(logarithms.diff().abs().sigmoid().item())

    def samples(self, batch: Tensor) -> Tensor:
        """The blends, ``[batch, ...]`` as given; ``batch`` itself if λ is 1."""
        return batch if self.share == 1 else batch.lerp(batch.roll(1, 0), 1 - self.share)

    def loss(self, loss: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
        """The loss of both classes, each by its part.

        Args:
            loss: of the network's outputs, given targets, a mean over samples.
            targets: ``[batch]``, classes of the samples that were blended.
        """
        own = loss(targets)
        if self.share == 1:
            return own
        return self.share * own + (1 - self.share) * loss(targets.roll(1, 0))
