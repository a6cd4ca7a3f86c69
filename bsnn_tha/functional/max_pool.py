r"""Max pooling of windows beside each other, with what PyTorch's gives, to the last bit.

    y[i, j] = max over a, b < p of x[p·i + a, p·j + b],

and the whole gradient goes to the first of equal maxima. PyTorch's loop on the CPU takes any
kernel, stride and padding, and notes a 64-bit index for each window; this one
(``torch.ops.bsnn_tha.max_pool``) knows that windows neither overlap nor leave gaps, and is
several times as fast: on moving-boxes it was a quarter of a training step.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.functional.running import plain


def max_pool(maps: Tensor, pool: int) -> Tensor:
    """The greatest value of each window of ``pool`` × ``pool``.

    Rows and columns that fill no window are left out.

    Args:
        maps: ``[samples, channels, height, width]``.
        pool: p.

    Returns:
        ``[samples, channels, height // p, width // p]``.

    Example:
        >>> max_pool(torch.arange(16.0).view(1, 1, 4, 4), 2)
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
    """
    return _pool(maps.contiguous(), pool)[0] if _takes(maps, pool) else F.max_pool2d(maps, pool)


def _takes(maps: Tensor, pool: int) -> bool:
    """Whether the compiled loop is the way; where channels are innermost PyTorch has its own."""
    return (
        maps.device.type == "cpu"
        and maps.dtype in (torch.float32, torch.float64)
        and type(maps) in (Tensor, torch.nn.Parameter)
        and not plain()
        and maps.is_contiguous()
        and maps.numel() > 0
        and pool <= min(maps.shape[-2:])
        and (loops := _compiled_loops()) is not None
        and pool <= loops.MOST
    )


@torch.library.custom_op("bsnn_tha::max_pool", mutates_args=())
def _pool(maps: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """The maxima, and the place of each in its window, uint8."""
    return _loops().forward(maps, pool)


@_pool.register_fake
def _(maps: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    *front, height, width = maps.shape
    output = maps.new_empty((*front, height // pool, width // pool))
    return output, torch.empty_like(output, dtype=torch.uint8)


@torch.library.custom_op("bsnn_tha::max_pool_backward", mutates_args=())
def _backward(g_output: Tensor, places: Tensor, pool: int, height: int, width: int) -> Tensor:
    return _loops().backward(g_output.contiguous(), places, pool, height, width)


@_backward.register_fake
def _(g_output: Tensor, places: Tensor, pool: int, height: int, width: int) -> Tensor:
    return g_output.new_empty((*g_output.shape[:-2], height, width))


def _save(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
    maps, ctx.pool = inputs
    ctx.size = maps.shape[-2:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_output: Tensor | None, _: Any) -> tuple[Tensor | None, None]:
    if g_output is None:
        return None, None
    (places,) = ctx.saved_tensors
    return _backward(g_output, places, ctx.pool, *ctx.size), None


_pool.register_autograd(_differentiate, setup_context=_save)


def _loops() -> ModuleType:
    loops = _compiled_loops()
    if loops is None:
        raise RuntimeError("this way of max_pool needs numba, which does not work here")
    return loops


@functools.cache
def _compiled_loops() -> ModuleType | None:
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import max_pool as max_pool_numba

        max_pool_numba.forward(torch.ones(1, 1, 2, 2), 2)
    except Exception:
        return None
    return max_pool_numba
