"""Dropout that keeps its mask as bytes for the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


class _Drop(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, probability: float) -> Tensor:
        ctx.keep = 1 - probability
        kept = torch.empty_like(input, dtype=torch.bool).bernoulli_(ctx.keep)
        ctx.save_for_backward(kept)
        return _scaled(input, kept, ctx.keep)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        return _scaled(grad[0], kept, ctx.keep), None


def _scaled(tensor: Tensor, kept: Tensor, keep: float) -> Tensor:
    # As nn.Dropout rounds: the mask is divided first.
    return kept.to(tensor.dtype).div_(keep).mul_(tensor)


class ByteDropout(nn.Dropout):
    """``nn.Dropout`` with a quarter of its memory on the CPU: the same masks, the same bits.

    PyTorch keeps a mask there as numbers of the input's dtype. (On a GPU it keeps
    bytes already.)

    Example:
        >>> drop, input = ByteDropout(0.5), torch.ones(1000)
        >>> sorted(set(drop(input).tolist()))
        [0.0, 2.0]
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zeros with probability p in training mode, the input itself otherwise."""
        plain = not self.training or self.p in (0, 1) or not input.requires_grad
        if plain or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        return _Drop.apply(input, self.p)
