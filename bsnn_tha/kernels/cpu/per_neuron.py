"""Thresholds of a layer or of each neuron as compiled loops see them, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels.cpu.memory import REALS


def number_or_each(values: Tensor, neurons: int) -> tuple[Any, Any]:
    """A number and None; or no number, and one for each of ``neurons``.

    Args:
        values: ``[]``, or one for each neuron of a sample, in the order of memory.
        neurons: of all samples, one sample after the other.
    """
    real = REALS[values.dtype]
    if values.numel() == 1:
        return real(values.item()), None
    each = values.to(torch.promote_types(values.dtype, torch.float32)).reshape(-1).numpy()
    return real(0), np.tile(each, neurons // len(each))


def summed_over_samples(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient of what :func:`number_or_each` gave, from that of each sample's neurons.

    By numpy: its order of summation knows no threads, PyTorch's does.

    Args:
        gradient: of samples, one after the other, or of sums over some of them.
        like: the values; for one number the gradient is summed over neurons as well.
    """
    found = gradient.numpy()
    if like.numel() == 1:
        return torch.full_like(like, found.sum().item(), dtype=gradient.dtype)
    return torch.from_numpy(found.reshape(-1, like.numel()).sum(0)).view(like.shape)
