"""Dropout that keeps a seed instead of a mask for the backward pass."""

from __future__ import annotations

from torch import Tensor, nn

from bsnn_tha.functional.dropout import dropout
from bsnn_tha.inputs import signal


class SeededDropout(nn.Dropout):
    """``nn.Dropout`` with the masks of :mod:`bsnn_tha.functional.dropout`.

    On a GPU and in half precision (float16) it is ``nn.Dropout`` itself.

    Example:
        >>> import torch
        >>> drop, input = SeededDropout(0.5), torch.ones(1000)
        >>> sorted(set(drop(input).tolist()))
        [0.0, 2.0]
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zeros with probability p in training mode, the input itself otherwise."""
        input = signal("input", input)
        return dropout(input, self.p) if self.training and self.p else input
