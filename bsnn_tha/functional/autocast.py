"""What the CPU's autocast to bfloat16 means here: the same network, in half the memory.

============================  =====================================================================
spikes                        bfloat16, which holds 0 and 1 (and whole numbers up to 256) exactly
currents                      sums in float32, or whole numbers of 16 bits
                              (:class:`~bsnn_tha.functional.sums.Sums`): nothing is rounded
batch norm, membranes         float32
gradients of spikes           bfloat16, and so the products that make them and the weights'
                              gradients, where the processor multiplies bfloat16
weights, their gradients      float32
============================  =====================================================================

Forward it is thus what float32 computes. Operations that look after their precision themselves ask
here; PyTorch's own are called where autocast is off. On a GPU autocast is PyTorch's.
"""

from __future__ import annotations

import contextlib
import functools

import torch


def halved() -> bool:
    """Whether the CPU's autocast asks for bfloat16."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def spike_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of spikes that fire on currents of a dtype, and of what gradients they get.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     spike_dtype(torch.float32)
        torch.bfloat16
    """
    return torch.bfloat16 if halved() else dtype


def unrounded() -> contextlib.AbstractContextManager[None]:
    """A block in which PyTorch's operations round no operand to bfloat16."""
    return torch.autocast("cpu", enabled=False) if halved() else contextlib.nullcontext()


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; the library is slow without them."""
    asked = (getattr(torch.cpu, name, None) for name in _INSTRUCTIONS)
    return any(known is not None and known() for known in asked)


_INSTRUCTIONS = "_is_amx_tile_supported", "_is_avx512_bf16_supported"
"""PyTorch's questions for them; private, and not in every version."""
