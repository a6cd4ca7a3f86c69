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


def spike_rates(spikes: Tensor) -> Tensor:
    """Spikes per time step of each neuron over a window: :func:`spike_counts` over T.

    Example:
        >>> spike_rates(torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]]))
        tensor([[0.5000, 1.0000]])
    """
    return spike_counts(spikes) / len(spikes)


def neuron_counts(spikes: Tensor) -> Tensor:
    """Spikes per neuron over a window and all its samples, exactly.

    Args:
        spikes: ``[time, batch, *neurons]``, 0 or 1, with fewer than 2^24 pairs
            of time step and sample.

    Returns:
        ``[*neurons]``, int64, detached.

    Example:
        >>> neuron_counts(torch.ones(300, 2, 3, dtype=torch.bfloat16))
        tensor([600, 600, 600])
    """
    # Presentations and neurons in the order in which they lie in memory: no window is copied.
    strides = spikes.stride()
    lead, order = (
        sorted(dims, key=strides.__getitem__, reverse=True)
        for dims in ((0, 1), range(2, spikes.dim()))
    )
    lying = spikes.detach().permute(*lead, *order)
    rows = lying.flatten(0, 1).flatten(1)
    if rows.dtype in (torch.float32, torch.float64):
        # A product with ones is twice as fast as a sum, and as exact: integers
        # up to 2^24 are float32 numbers. Autocast would take that away.
        with torch.autocast(rows.device.type, enabled=False):
            counts = rows.new_ones(len(rows)) @ rows
    else:
        counts = rows.sum(0, dtype=torch.float32)
    back = sorted(range(len(order)), key=order.__getitem__)
    return counts.to(torch.int64).view(lying.shape[2:]).permute(back)
