"""What autocast asks of operations that look after their precision themselves."""

from __future__ import annotations

import torch
from torch import Tensor


def result_dtype(tensor: Tensor) -> torch.dtype:
    """bfloat16 where the CPU's autocast asks for it, else the tensor's own.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     result_dtype(torch.ones(1))
        torch.bfloat16
    """
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
        return torch.bfloat16
    return tensor.dtype
