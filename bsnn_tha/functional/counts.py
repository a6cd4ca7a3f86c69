"""Counting spikes without losing any."""

from __future__ import annotations

import torch
from torch import Tensor


def spike_counts(spikes: Tensor) -> Tensor:
    """Spikes per neuron over a window, in at least float32.

    Under mixed precision spikes come in bfloat16, whose integers end at 256:
    summed as they are, long windows would lose spikes.

    Args:
        spikes: ``[time, batch, ...]``, 0 or 1.

    Returns:
        ``[batch, ...]``, differentiable.

    Example:
        >>> spike_counts(torch.ones(300, 1, 2, dtype=torch.bfloat16))
        tensor([[300., 300.]])
    """
    return spikes.sum(0, dtype=torch.promote_types(spikes.dtype, torch.float32))
