r"""A convolution and average pooling that skip the zeros of their input.

    avg_pool_p(conv_k(x, W)),    x few whole numbers (spikes, or how many), W binary

costs an addition for each spike and weight that it meets, forward and for the weights'
gradient: :mod:`bsnn_tha.kernels.cpu.sparse_conv` and
:mod:`bsnn_tha.kernels.cpu.weight_gradient`. Forward the sums are whole numbers: the
same bits as in float32. For the backward pass the spikes are kept as a list.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.functional import winograd
from bsnn_tha.functional.autocast import spike_dtype
from bsnn_tha.functional.layer import Convolution, Layer
from bsnn_tha.functional.lif_operator import memory_order
from bsnn_tha.functional.running import Refused, note, plain
from bsnn_tha.functional.sums import Sums
from bsnn_tha.kernels import tuning


class Listed(NamedTuple):
    """A convolution and its input as the loops read them."""

    loops: ModuleType
    geometry: Any
    """Sizes."""
    taps: Any
    """Where the spike of an input goes."""
    weights: Tensor
    """Whole numbers, int16."""
    events: Any
    """Lists of spikes."""


def listed(layer: Layer, input: Tensor, must_pay: bool = True) -> Listed | Refused:
    """What the loops read of a sparse convolution, or why convolutions are the way.

    Args:
        layer: with average pooling of a stride of 1.
        input: ``[time, batch, in, height, width]`` in any order of memory.
        must_pay: refuse what is too little to do, has too many spikes, or has gradients that
            the library is faster at.
    """
    assert layer.convolution is not None
    if not layer.convolution.composes or layer.convolution.groups > 1:
        return Refused("its convolution has a stride, groups or another pooling than the average")
    if obstacle := obstacle_of(input):
        return obstacle
    weight, (_, pool, padding, *_) = layer.weight, layer.convolution
    outputs, _, kernel, _ = weight.shape
    if must_pay and input.numel() * outputs * kernel**2 < tuning.SMALL:
        return Refused("it is too little to do")
    if any(its.device.type != "cpu" for its in (input, weight)):
        return Refused("it needs tensors on the CPU")
    if any(type(its) not in (Tensor, torch.nn.Parameter) for its in (input, weight)):
        return Refused("it needs plain tensors")
    if weight.dtype not in (torch.float32, torch.float64):
        return Refused("it needs weights in float32 or float64")
    if pool & (pool - 1):
        return Refused("it pools by other than a power of two")
    loops = _compiled_loops()
    if loops is None:
        return Refused("numba does not work here")
    geometry = loops.Geometry(*input.shape[2:], *weight.shape[::2], pool, padding)
    if must_pay and torch.is_grad_enabled() and not _pays_backward(input, weight, geometry):
        return Refused("the library is faster at its gradients")
    # Each step's channels, rows and columns as they lie in memory, which is not copied.
    order = tuple(dim - 2 for dim in memory_order(input) if dim > 1)
    # A window and its steps as one large batch are the same spikes.
    question = "spikes", input.data_ptr(), input.numel(), order, must_pay
    return layer.once(question, lambda: _listed(loops, geometry, weight, input, order, must_pay))


def _listed(
    loops: ModuleType,
    geometry: Any,
    weight: Tensor,
    input: Tensor,
    order: tuple[int, ...],
    must_pay: bool,
) -> Listed | Refused:
    weights = loops.weights_of(weight, geometry) if geometry.fits() else None
    if weights is None:
        return Refused("its weights are no small whole numbers")
    lying = input.detach().permute(0, 1, *(dim + 2 for dim in order)).flatten(2)
    share = tuning.SPARSE_CONV_SHARE if must_pay else 1.0
    events = loops.listed(lying, weights, int(share * input.numel()))
    if events is None:
        return Refused("its input is not few whole numbers")
    return Listed(loops, geometry, loops.Taps.of(geometry, order), weights.values, events)


def obstacle_of(input: Tensor) -> Refused | None:
    """Why :func:`listed` refuses whatever the values and the weights."""
    if input.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        return Refused("it needs an input in float32, float64 or bfloat16")
    # What is decided here depends on values, which compilers and transforms do not see.
    if torch.compiler.is_compiling() or plain():
        return Refused("something is at work that takes PyTorch's own operations only")
    return None


def _pays_backward(input: Tensor, weight: Tensor, geometry: Any) -> bool:
    """Whether gradients are not what the library is faster at."""
    if input.requires_grad and geometry.kernel == tuning.WINOGRAD and geometry.pool == 1:
        return False
    return not weight.requires_grad or math.prod(geometry.taps_shape) <= tuning.MOST_TAPS


class SparseConvolution(NamedTuple):
    """The route of a current: an addition for each spike and weight that it meets."""

    layer: Layer
    input: Tensor
    found: Listed

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor, must_pay: bool = True) -> Self | Refused:
        """For ``[samples, in, height, width]``."""
        found = listed(layer, input.unsqueeze(0), must_pay)
        return found if isinstance(found, Refused) else cls(layer, input, found)

    def current(self) -> Tensor:
        """``[samples, out, ...]``, channels last in memory."""
        note("sparse_conv")
        weight = self.layer.weight
        maps, _ = SparseConv.apply(self.input, weight, self.found, None)
        return maps

    def sums(self) -> Sums:
        """The same as whole numbers."""
        note("sparse_conv")
        weight = self.layer.weight
        node, values = SparseConv.apply(self.input, weight, self.found, spike_dtype(weight.dtype))
        return Sums(values, self.found.geometry.unit, weight.dtype, node)


def sparse_conv2d(input: Tensor, weight: Tensor, pool: int = 1, padding: int = 0) -> Tensor | None:
    """:func:`~bsnn_tha.functional.conv.conv_avg_pool2d`; None where it is not faster.

    Args:
        input: ``[samples, in, height, width]``.
        weight: ``[out, in, k, k]``, ±1 (or small whole numbers).
        pool, padding: as there.

    Returns:
        ``[samples, out, ...]``, channels last in memory, in the weight's dtype.

    Example:
        >>> spikes = (torch.rand(64, 16, 14, 14) < 0.05).float()
        >>> signs = torch.randn(32, 16, 5, 5).sign()
        >>> torch.equal(sparse_conv2d(spikes, signs), torch.nn.functional.conv2d(spikes, signs))
        True
        >>> sparse_conv2d(0.5 * spikes, signs) is None
        True
    """
    layer = Layer(lambda: weight, convolution=Convolution(pool=pool, padding=padding))
    route = SparseConvolution.accepts(layer, input)
    return None if isinstance(route, Refused) else route.current()


class SparseConv(Function):
    """The convolution as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, found: Listed, g_dtype: torch.dtype | None
    ) -> tuple[Tensor, Tensor | None]:
        """Currents and None; or, with the dtype of their gradient, what stands for them, and sums.

        As :class:`~bsnn_tha.functional.sums.Sums` has them.
        """
        loops, geometry, taps, weights, events = found
        ctx.save_for_backward(weights, *events)
        ctx.loops, ctx.geometry, ctx.taps = loops, geometry, taps
        ctx.input_dtype, ctx.dtype = input.dtype, weight.dtype
        shape = len(input), geometry.rows, geometry.columns, geometry.outputs
        maps = torch.empty(shape, dtype=weight.dtype if g_dtype is None else torch.int16)
        loops.convolve(events, taps, weights, geometry, maps)
        maps = maps.permute(0, 3, 1, 2)
        if g_dtype is None:
            return maps, None
        ctx.mark_non_differentiable(maps)
        return torch.empty((), dtype=g_dtype).expand(maps.shape), maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        loops, geometry, dtype = ctx.loops, ctx.geometry, ctx.dtype
        weights, *events = ctx.saved_tensors
        g_maps = grads[0].permute(0, 2, 3, 1).contiguous()
        g_input = g_weight = None
        if ctx.needs_input_grad[0]:
            g_input = input_gradient(g_maps, weights, geometry, ctx.input_dtype)
        if ctx.needs_input_grad[1]:
            # Imports numba, as loops have.
            from bsnn_tha.kernels.cpu.weight_gradient import weight_gradient

            g_weight = weight_gradient(loops.Events(*events), ctx.taps, g_maps, geometry, dtype)
        return g_input, g_weight, None, None


def input_gradient(g_maps: Tensor, weights: Tensor, geometry: Any, dtype: torch.dtype) -> Tensor:
    """Gradient of the input, ``[samples, in, height, width]``.

    Args:
        g_maps: ``[samples, rows, columns, out]``.
        weights: as the loops read them.
        geometry: sizes.
        dtype: of the gradient.
    """
    # Imports numba, which was seen to work when the spikes were listed.
    from bsnn_tha.kernels.cpu import input_gradient as loops

    channels, height, width, outputs, _, pool, padding = geometry
    rows, columns = g_maps.shape[1:3]
    takes = winograd.takes_input(rows, columns, outputs, geometry.kernel, pool)
    if takes and g_maps.dtype != torch.float64:
        shape = len(g_maps), height, width, channels
        taps = loops.taps_by_channel(weights, geometry, torch.float32, side=3 * pool)
        g_input = winograd.input_gradient_of_taps(g_maps, taps, shape, pool, padding, dtype=dtype)
    else:
        g_input = loops.input_gradient(g_maps, weights, geometry, dtype)
    return g_input.permute(0, 3, 1, 2)


@functools.cache
def _compiled_loops() -> ModuleType | None:
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import sparse_conv as sparse_conv_numba

        geometry = sparse_conv_numba.Geometry(1, 1, 1, 1, 1, 1, 0)
        sparse_conv_numba.weights_of(torch.ones(1, 1, 1, 1), geometry)
    except Exception:
        return None
    return sparse_conv_numba
