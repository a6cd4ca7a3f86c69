"""Layers in one pass beside what they are defined as: both run, and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bsnn_tha.equations.lif import LIFWindow


def events(
    shape: Sequence[int],
    share: float = 0.05,
    dtype: torch.dtype = torch.float32,
    seed: int = 1,
    most: int = 1,
) -> Tensor:
    """Zeros but for a share of whole numbers of 1 to ``most``."""
    generator = torch.Generator().manual_seed(seed)
    spikes = torch.rand(shape, generator=generator) < share
    return (spikes * torch.randint(1, most + 1, spikes.shape, generator=generator)).to(dtype)


def run(
    function: Callable[..., LIFWindow | None], leaves: Sequence[Tensor], *arguments, **keywords
) -> list[Tensor]:
    """Spikes, last membrane and gradients of the leaves, of which the last is the membrane."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    window = function(*leaves[:-1], *arguments, membrane=leaves[-1], **keywords)
    assert window is not None
    generator = torch.Generator().manual_seed(0)
    upstream = [
        torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
        for tensor in (window.spikes, window.membrane)
    ]
    gradients = torch.autograd.grad((window.spikes, window.membrane), leaves, upstream)
    return [window.spikes.detach(), window.membrane.detach(), *gradients]


def assert_same(actual: Sequence[Tensor], expected: Sequence[Tensor], **tolerance: float) -> None:
    """Of two :func:`run`: the same spikes and membranes to the last bit, gradients but for sums."""
    for got, wanted in zip(actual[:2], expected[:2], strict=True):
        assert torch.equal(got, wanted)
    for got, wanted in zip(actual[2:], expected[2:], strict=True):
        torch.testing.assert_close(got, wanted, **tolerance)
