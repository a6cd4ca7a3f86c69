"""Cross-entropy of the output's mean membrane potential (LTMD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.inputs import labels
from bsnn_tha.losses.readouts import mean_membrane
from bsnn_tha.nn.window import NetworkWindow


@dataclass(frozen=True)
class MeanMembraneLoss:
    """Cross-entropy of the membranes' mean over time (LTMD, section 3.3 and Eq. 12).

    Wang, Cheng and Lim (2022) read the class with the highest time-averaged
    potential of the last layer, and treat these averages as probabilities;
    here through a softmax, which is what their divergence of two passes needs
    too. What exactly they take as the loss of a pass their text does not say.

    Example:
        >>> import torch
        >>> membranes = torch.tensor([[[0.0, 2.0]], [[0.0, 4.0]]])  # [time, batch, classes]
        >>> window = NetworkWindow(torch.zeros(2, 1, 2), membranes, ())
        >>> MeanMembraneLoss().scores(window)
        tensor([[0., 3.]])
        >>> MeanMembraneLoss()(window, torch.tensor([1]))
        tensor(0.0486)
    """

    needs_membranes: ClassVar[bool] = True
    classifies: ClassVar[bool] = True

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.scores(window), labels(targets))

    def scores(self, window: NetworkWindow) -> Tensor:
        """Mean potentials, ``[batch, classes]``."""
        return mean_membrane(window)
