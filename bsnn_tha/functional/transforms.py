"""Whether ``torch.func`` is at work: its transforms go through PyTorch's own operations only."""

from __future__ import annotations

import torch


def transformed() -> bool:
    """Whether this is called under ``torch.func.grad``, ``vmap``, ``jvp`` or another of them.

    Example:
        >>> transformed(), torch.func.vmap(lambda x: x * transformed())(torch.ones(2)).tolist()
        (False, [1.0, 1.0])
    """
    # A compiler traces what it compiles without them.
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active())
