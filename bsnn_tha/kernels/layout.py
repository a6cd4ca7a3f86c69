"""How a window lies in memory, for scans that go through memory themselves."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Layout(NamedTuple):
    """A window as the scans see it: for each step ``rows`` runs of ``length`` neurons.

    Most windows are a single row. Batch norm gives one whose time steps lie
    inside the samples: there each sample is a row.

    Example:
        >>> window = torch.empty(2, 5, 3, 40).transpose(0, 1)  # [time, batch, ...]
        >>> layout = Layout.of(window, [0, 1, 2, 3])
        >>> layout.rows, layout.length, layout.is_view(window)
        (2, 120, True)
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    """Dimensions of the window: time, then those of a step as they lie in memory."""
    rows: int
    length: int

    @classmethod
    def of(cls, window: Tensor, order: list[int], shortest: int = 1) -> Self:
        """The layout of a window whose dimensions lie in this order, but for that of time.

        Rows of fewer than ``shortest`` neurons become one row, which is then a copy.
        """
        shape, strides = window.shape, window.stride()
        length = 1
        for dim in reversed(order[1:]):
            if shape[dim] != 1 and strides[dim] != length:
                break
            length *= shape[dim]
        neurons = math.prod(shape[1:])
        if length < shortest:
            length = neurons
        return cls(shape, tuple(order), neurons // length if length else 1, length)

    @property
    def steps(self) -> int:
        return self.shape[0]

    @property
    def neurons(self) -> int:
        return self.rows * self.length

    def split(self, window: Tensor) -> Tensor:
        """``[time, rows, length]``: a view if memory allows, else a copy."""
        split = window.detach().permute(self.order).reshape(self.steps, self.rows, self.length)
        return split if split.stride(2) == 1 or self.length == 1 else split.contiguous()

    def is_view(self, window: Tensor) -> bool:
        """Whether writing to what the scans see of a window writes to the window."""
        return self.split(window).data_ptr() == window.data_ptr()

    def writable(self, window: Tensor) -> Tensor:
        """The window if the scans can write to it; else one they can, to be copied from."""
        return window if self.is_view(window) else empty(window, list(self.order))

    def step(self, tensor: Tensor) -> Tensor:
        """One value for each neuron, in the order of memory and in what is computed with."""
        tensor = tensor.detach()
        if tensor.numel() == 1:  # [1, 1] for a step of [batch] is fine as well
            tensor = tensor.reshape(())
        if tensor.itemsize < 4:
            tensor = tensor.float()
        step = tensor.expand(self.shape[1:]).permute([dim - 1 for dim in self.order[1:]])
        return step.reshape(-1).contiguous()

    def restore_step(self, step: Tensor, dtype: torch.dtype) -> Tensor:
        """A step in its own shape, of one as the scans see it."""
        dims = [dim - 1 for dim in self.order[1:]]
        inverse = sorted(range(len(dims)), key=dims.__getitem__)
        return step.view([self.shape[1 + dim] for dim in dims]).permute(inverse).to(dtype)

    def summed(self, step: Tensor, like: Tensor) -> Tensor:
        """The same, over what the parameter is broadcast along."""
        return self.restore_step(step, step.dtype).sum_to_size(like.shape).to(like.dtype)


def empty(like: Tensor, order: list[int]) -> Tensor:
    """An empty window whose dimensions lie in this order."""
    return torch.empty_permuted(like.shape, order, dtype=like.dtype, device=like.device)


def innermost(maps: Tensor) -> Tensor:
    """Maps ``[..., C, height, width]`` with the channels innermost in memory; or a number ``[]``.

    Example:
        >>> innermost(torch.empty(2, 8, 5, 4)).shape, innermost(torch.tensor(1.5))
        (torch.Size([2, 5, 4, 8]), tensor(1.5000))
    """
    return maps.movedim(-3, -1).contiguous() if maps.dim() else maps
