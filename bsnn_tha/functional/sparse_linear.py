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
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.functional.autocast import halved, unrounded
from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.running import Refused, note, plain
from bsnn_tha.kernels import tuning


def sparse_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``nn.functional.linear`` for an input that is data, not another layer's output.

    An input that wants a gradient, a GPU and half precision get
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
    route = SparseProduct.accepts(Layer(lambda: weight, bias), input)
    if isinstance(route, Refused):
        note("linear")
        return F.linear(input, weight, bias)
    return route.current()


class SparseProduct(NamedTuple):
    """The route of a current: :func:`sparse_linear`."""

    layer: Layer
    input: Tensor

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor) -> Self | Refused:
        """For ``[samples, ...]``.

        How many values are zero is found out by the operator, which compilers keep whole; of
        more than :data:`~bsnn_tha.kernels.tuning.SPARSE_LINEAR_SHARE` it makes the usual product.
        """
        if input.requires_grad:
            return Refused("its input wants a gradient")
        if input.device.type != "cpu":
            return Refused("it needs tensors on the CPU")
        if input.dtype not in (torch.float32, torch.float64) or layer.weight.dtype != input.dtype:
            return Refused("it needs input and weights in float32 or float64")
        if (torch.is_autocast_enabled("cpu") and not halved()) or plain():
            return Refused("something is at work that takes PyTorch's own operations only")
        return cls(layer, input)

    def current(self) -> Tensor:
        """``[samples, out]``."""
        output, *_ = _linear(*flattened(self.input, self.layer.weight), self.layer.bias)
        return output


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


def weight_gradient(input: Tensor, g_output: Tensor) -> Tensor:
    """Σ g xᵀ over samples, ``[out, in]``: of a product's weights, whose input may be sparse.

    Args:
        input: x, ``[samples, in]``.
        g_output: g, ``[samples, out]``.
    """
    starts, columns = _room(input)
    loops = None
    if input.device.type == "cpu" and input.dtype in (torch.float32, torch.float64):
        loops = _loops(input, g_output.shape[1])
    if loops is None or not loops.listed(input, starts, columns):
        starts = starts.fill_(-1)
    return _gradient(input, starts, columns, g_output)


# Operators, so that compilers and exporters see a node: what it does depends on values. Their
# shapes must not, so that lists have room for as many values as there may be.


@torch.library.custom_op("bsnn_tha::sparse_linear", mutates_args=())
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The product; and the list of what is not zero, which begins with −1 if it has not been made.

    Where each sample's list starts and which inputs are in it.
    """
    starts, columns = _room(input)
    loops = _loops(input, len(weight))
    if loops is not None and loops.listed(input, starts, columns):
        note("sparse_linear")
        return loops.forward(input, starts, columns, weight, bias), starts, columns
    note("linear")
    starts.fill_(-1)
    with unrounded():
        return F.linear(input, weight, bias), starts, columns


@_linear.register_fake
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return input.new_empty(input.shape[0], weight.shape[0]), *_room(input)


def _room(input: Tensor) -> tuple[Tensor, Tensor]:
    most = input.numel() // round(1 / tuning.SPARSE_LINEAR_SHARE)
    return (
        input.new_zeros(input.shape[0] + 1, dtype=torch.int64),
        input.new_zeros(most, dtype=torch.int32),
    )


@torch.library.custom_op("bsnn_tha::sparse_linear_gradient", mutates_args=())
def _gradient(input: Tensor, starts: Tensor, columns: Tensor, g_output: Tensor) -> Tensor:
    loops = None if int(starts[0]) < 0 else _compiled_loops()
    if loops is None:
        with unrounded():
            return (g_output.t() @ input).contiguous()
    return loops.gradient(input, starts, columns, g_output).contiguous()


@_gradient.register_fake
def _(input: Tensor, starts: Tensor, columns: Tensor, g_output: Tensor) -> Tensor:
    return input.new_empty(g_output.shape[1], input.shape[1])


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], *output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_output: Tensor, *_: None) -> tuple:
    _, weight, bias = ctx.needs_input_grad
    return (
        None,
        _gradient(*ctx.saved_tensors, g_output) if weight else None,
        g_output.sum(0) if bias else None,
    )


_linear.register_autograd(_differentiate, setup_context=_save)


def _loops(input: Tensor, outputs: int) -> ModuleType | None:
    """The compiled loops, if they may pay for this input."""
    few = outputs < tuning.SPARSE_LINEAR_FEWEST or input.numel() * outputs < tuning.SMALL
    return None if few else _compiled_loops()


@functools.cache
def _compiled_loops() -> ModuleType | None:
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import sparse_linear as sparse_numba

        sparse_numba.listed(torch.eye(1), *_room(torch.eye(1)))
    except Exception:
        return None
    return sparse_numba
