"""Products and convolutions of the library under autocast: sums in float32, gradients in half.

Forward, spikes that come in bfloat16 are widened, a part that fits the cache at a time, and
multiplied in float32. Backward, products are of bfloat16 where the processor has instructions for
them. :mod:`bsnn_tha.functional.autocast` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bsnn_tha.functional.autocast import halved, multiplies_bfloat16, unrounded
from bsnn_tha.functional.running import plain
from bsnn_tha.kernels import tuning


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``nn.functional.linear``, and under autocast the same numbers.

    Args:
        input: ``[samples, in]``; may be bfloat16.
        weight: ``[out, in]``.
        bias: ``[out]`` or None.

    Example:
        >>> spikes, weight = torch.ones(1, 301), torch.ones(1, 301)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     linear(spikes.bfloat16(), weight, None).item()  # bfloat16 has no 301
        301.0
    """
    if not _own_way(input):
        input = _widened(input, weight)
        with unrounded():
            return F.linear(input, weight, bias)
    return _Linear.apply(input, weight, bias)


def conv2d(input: Tensor, weight: Tensor, stride: int, padding: int = 0, groups: int = 1) -> Tensor:
    """``nn.functional.conv2d``, and under autocast the same numbers.

    Args:
        input: ``[samples, in, height, width]``; may be bfloat16.
        weight: ``[out, in / groups, k, k]``.
        stride, padding, groups: as there.
    """
    if stride > 1 and weight.shape[-2:] == (1, 1) and not padding:
        # The places that are seen, by themselves. Strided, the library's gradient of the weight
        # writes past its end on AVX2, with channels innermost and fewer than 8 (PyTorch 2.13).
        input, stride = input[..., ::stride, ::stride], 1
    if not _own_way(input):
        input = _widened(input, weight)
        with unrounded():
            return F.conv2d(input, weight, None, stride, padding, 1, groups)
    return _Conv2d.apply(input, weight, stride, padding, groups)


def product_of_gradients(grads: Tensor, weight: Tensor) -> Tensor:
    """``grads @ weight`` for gradients of spikes, ``[samples, out]`` and ``[out, in]``.

    In the dtype of ``grads``, and computed in it where the processor can.
    """
    with unrounded():
        if grads.dtype != torch.bfloat16 or multiplies_bfloat16():
            return grads @ weight.to(grads.dtype)
        product = grads.new_empty(len(grads), weight.shape[1])
        for some in _parts(product):
            product[some] = grads[some].to(weight.dtype) @ weight
        return product


def _own_way(input: Tensor) -> bool:
    """Whether there is something to save: compilers and transforms see the library's operations."""
    return (
        halved() and input.device.type == "cpu" and not (torch.compiler.is_compiling() or plain())
    )


def _widened(input: Tensor, weight: Tensor) -> Tensor:
    """In the weight's dtype where autocast left it half."""
    return input.to(weight.dtype) if halved() and input.device.type == "cpu" else input


def _parts(samples: Tensor) -> Iterator[slice]:
    """Of a matrix, as many rows as fit a second-level cache once they are float32."""
    rows = max(1, tuning.WIDENED_TOGETHER // max(1, 4 * samples.shape[1]))
    return (slice(begin, begin + rows) for begin in range(0, len(samples), rows))


class _Linear(Function):
    """The product as a node of the graph."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        output = weight.new_empty(len(input), len(weight))
        with unrounded():
            for some in _parts(input):
                output[some] = F.linear(input[some].to(weight.dtype), weight, bias)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g_output,), (input, weight) = grads, ctx.saved_tensors
        with_input, with_weight, with_bias = ctx.needs_input_grad
        g_input = g_weight = None
        with unrounded():
            if with_input:
                g_input = product_of_gradients(g_output.to(input.dtype), weight)
            if with_weight and multiplies_bfloat16():
                g_weight = (g_output.bfloat16().t() @ input.bfloat16()).to(weight.dtype)
            elif with_weight:
                g_weight = torch.zeros_like(weight)
                for some in _parts(input):
                    g_weight.addmm_(g_output[some].t(), input[some].to(weight.dtype))
        return g_input, g_weight, g_output.sum(0) if with_bias else None


class _Conv2d(Function):
    """The convolution as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int, groups: int
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.geometry = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups
        with unrounded():
            return F.conv2d(input.to(weight.dtype), weight, None, stride, padding, 1, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        dtype = torch.bfloat16 if multiplies_bfloat16() else weight.dtype
        g_input, g_weight, _ = torch.ops.aten.convolution_backward(
            grads[0].to(dtype), input.to(dtype), weight.to(dtype), None, *ctx.geometry,
            [*ctx.needs_input_grad[:2], False],
        )  # fmt: skip
        return (
            None if g_input is None else g_input.to(input.dtype),
            None if g_weight is None else g_weight.to(weight.dtype),
            *[None] * 3,
        )
