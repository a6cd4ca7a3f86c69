"""Tensors as compiled loops see them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

REALS: dict[torch.dtype, Any] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.bfloat16: np.float32,
}
"""What a dtype is computed in."""


def memory_of(tensor: Tensor) -> Any:
    """A contiguous tensor as one flat array: bfloat16 as the integers that numpy knows."""
    flat = tensor.view(-1)
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()
