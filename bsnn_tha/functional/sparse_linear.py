"""A fully connected layer that skips the zeros of its input.

Recorded events are sparse: of SHD's inputs, 2.4% per 3 ms are spikes. Where an
input to the network has so few non-zero values, its product with the weights
and the weights' gradient are sums over those alone, compiled by numba
(:mod:`bsnn_tha.kernels.cpu.sparse_linear`); elsewhere they are the usual matrix
products. Which it is depends on the input's values only.

On spikes (and counts) with weights of ±1 both are sums of whole numbers, and
equal to the last bit but for where a bias is added. Gradients are sums in
another order. A weight that is not a number is only met where its input is not
zero.
"""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.functional.routes import note, plain
from bsnn_tha.kernels import tuning


def sparse_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``nn.functional.linear`` for an input that is data, not another layer's output.

    An input that wants a gradient, autocast, a GPU and half precision get
    ``nn.functional.linear`` itself.

    Args:
        input: ``[samples, in]``.
        weight: ``[out, in]``.
        bias: ``[out]`` or None.

    Returns:
        ``[samples, out]``.

    Example:
        >>> weight = torch.tensor([[1.0, -1.0, 1.0]])
        >>> sparse_linear(torch.tensor([[0.0, 1.0, 2.0]]), weight)
        tensor([[1.]])
    """
    if (
        input.requires_grad
        or input.device.type != "cpu"
        or input.dtype not in (torch.float32, torch.float64)
        or weight.dtype != input.dtype
        or torch.is_autocast_enabled("cpu")
        or plain()
    ):
        note("linear")
        return F.linear(input, weight, bias)
    return _linear(input, weight, bias)


def flattened(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the features in the order in which the input lies in memory.

    Maps with their channels innermost need not be copied: the weights' columns
    are, which are fewer.

    Args:
        input: ``[samples, ...]``.
        weight: ``[out, in]``, its columns in the order of the input's dimensions.

    Example:
        >>> maps = torch.rand(100, 8, 3, 3).contiguous(memory_format=torch.channels_last)
        >>> weight = torch.rand(5, 72)
        >>> rows, columns = flattened(maps, weight)
        >>> rows.data_ptr() == maps.data_ptr()
        True
        >>> torch.allclose(rows @ columns.t(), maps.flatten(1) @ weight.t(), atol=1e-4)
        True
    """
    if input.dim() != 4 or plain():
        return input.flatten(1), weight
    last = input.is_contiguous(memory_format=torch.channels_last)
    if not last or input.is_contiguous() or len(input) <= len(weight):
        return input.flatten(1), weight
    columns = weight.unflatten(1, input.shape[1:]).permute(0, 2, 3, 1)
    return input.permute(0, 2, 3, 1).flatten(1), columns.flatten(1)


# Operators, so that compilers and exporters see a node: what it does depends on values.


@torch.library.custom_op("bsnn_tha::sparse_linear", mutates_args=())
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    loops = _loops(input, len(weight))
    note("linear" if loops is None else "sparse_linear")
    return F.linear(input, weight, bias) if loops is None else loops.forward(input, weight, bias)


@_linear.register_fake
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return input.new_empty(input.shape[0], weight.shape[0])


@torch.library.custom_op("bsnn_tha::sparse_linear_gradient", mutates_args=())
def _gradient(input: Tensor, g_output: Tensor) -> Tensor:
    loops = _loops(input, g_output.shape[1])
    gradient = g_output.t() @ input if loops is None else loops.gradient(input, g_output)
    return gradient.contiguous()


@_gradient.register_fake
def _(input: Tensor, g_output: Tensor) -> Tensor:
    return input.new_empty(g_output.shape[1], input.shape[1])


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _differentiate(ctx: torch.autograd.function.FunctionCtx, g_output: Tensor) -> tuple:
    (input,) = ctx.saved_tensors  # type: ignore[attr-defined]
    _, weight, bias = ctx.needs_input_grad  # type: ignore[attr-defined]
    return (
        None,
        _gradient(input, g_output) if weight else None,
        g_output.sum(0) if bias else None,
    )


_linear.register_autograd(_differentiate, setup_context=_save)


def _loops(input: Tensor, outputs: int) -> ModuleType | None:
    """The compiled loops, if they pay for this input."""
    if outputs < tuning.SPARSE_LINEAR_FEWEST or input.numel() * outputs < tuning.SMALL:
        return None
    if int(input.count_nonzero()) > tuning.SPARSE_LINEAR_SHARE * input.numel():
        return None
    return _compiled_loops()


@functools.cache
def _compiled_loops() -> ModuleType | None:
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import sparse_linear as sparse_numba

        sparse_numba.forward(torch.eye(1), torch.ones(1, 1), None)
    except Exception:
        return None
    return sparse_numba
