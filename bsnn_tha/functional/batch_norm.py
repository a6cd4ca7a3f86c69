r"""Batch norm of every time step by its own statistics, channels last in memory.

    y = w (x − μ[t]) / √(σ²[t] + ε) + b,

mean μ and (biased) variance σ² over the batch and the space of step t, per channel.

The library's batch norm does this for a window if every (step, channel) pair is
made a channel of its own, which needs the window copied into another layout and
back, in both directions. These operators (``torch.ops.bsnn_tha.batch_norm`` and
``batch_norm_backward``) read it as the convolution wrote it, one step at a time,
which stays in the cache from its statistics to its result. Results differ from the
library's by rounding.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from bsnn_tha.functional.running import note, plain


def takes(window: Tensor) -> bool:
    """Whether :func:`batch_norm_steps` is the way for such a window ``[time, batch, C, H, W]``."""
    return (
        window.device.type == "cpu"
        and window.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and type(window) is Tensor
        and window.shape[1] * window.shape[3] * window.shape[4] > 1
        and compiled()
    )


def compiled() -> bool:
    """Whether compiled loops may be the way, and work here."""
    return not plain() and _compiled_loops() is not None


def batch_norm_steps(
    input: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise a window.

    Args:
        input: ``[time, batch, C, H, W]``; without copies where C is innermost.
        weight, bias: w and b, ``[C]``.
        eps: ε.

    Returns:
        The window, C innermost, and for the running statistics, without
        gradient, mean and unbiased variance, ``[time, C]``.

    Example:
        >>> window = torch.randn(3, 8, 4, 5, 5)
        >>> result, mean, _ = batch_norm_steps(window, torch.ones(4), torch.zeros(4), 1e-5)
        >>> torch.allclose(mean, window.mean((1, 3, 4)), atol=1e-5)
        True
        >>> bool(result[0, :, 0].mean().abs() < 1e-5)
        True
    """
    note("batch_norm_steps")
    steps, batch, channels, height, width = input.shape
    rows = input.permute(0, 1, 3, 4, 2).reshape(steps, -1, channels)
    output, mean, variance = _batch_norm(rows, weight, bias, eps)
    count = rows.shape[1]
    window = output.view(steps, batch, height, width, channels).permute(0, 1, 4, 2, 3)
    return window, mean.to(weight.dtype), (variance * (count / (count - 1))).to(weight.dtype)


@torch.library.custom_op("bsnn_tha::batch_norm", mutates_args=())
def _batch_norm(
    input: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``[time, rows, channels]``, mean and biased variance in float64."""
    return _loops().forward(input.detach().contiguous(), weight, bias, eps)


@_batch_norm.register_fake
def _(input: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    statistics = input.new_empty(input.shape[0], input.shape[2], dtype=torch.float64)
    return (
        torch.empty_like(input, memory_format=torch.contiguous_format),
        statistics,
        torch.empty_like(statistics),
    )


@torch.library.custom_op("bsnn_tha::batch_norm_backward", mutates_args=())
def _backward(
    g_output: Tensor, input: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias."""
    given = g_output.contiguous(), input.contiguous(), weight, mean, variance, eps
    return _loops().backward(*given, input.dtype)


@_backward.register_fake
def _(
    g_output: Tensor, input: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(input, memory_format=torch.contiguous_format),
        torch.empty_like(weight),
        torch.empty_like(weight),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, weight, _, ctx.eps = inputs
    _, mean, variance = output
    ctx.mark_non_differentiable(mean, variance)
    ctx.save_for_backward(input, weight, mean, variance)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_output: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if g_output is None:
        return None, None, None, None
    return *_backward(g_output, *ctx.saved_tensors, ctx.eps), None


_batch_norm.register_autograd(_differentiate, setup_context=_save)


def _loops() -> ModuleType:
    loops = _compiled_loops()
    if loops is None:
        raise RuntimeError("batch_norm_steps needs numba, which does not work here")
    return loops


@functools.cache
def _compiled_loops() -> ModuleType | None:
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import batch_norm as batch_norm_numba

        one = torch.ones(1)
        batch_norm_numba.forward(torch.ones(1, 2, 1), one, one, 1.0)
    except Exception:
        return None
    return batch_norm_numba
