r"""Convolution of spikes: products of bytes forward, matrix products back.

Spikes are 0 or 1 (pooled ones and counts are small whole numbers) and binary
weights, pooled or not, are small multiples of 1 / scale. Forward, their
products are therefore exact in 8 bits, their sums in 32: the processor's matrix
units (VNNI, AMX) compute the same bits as a convolution in float32, several
times as fast. For the backward pass the spikes are kept as bytes, a quarter of the memory.

Backward, 3 × 3 kernels, pooled or not, go by Winograd's algorithm
(:mod:`~bsnn_tha.functional.winograd`). Of others without padding both gradients are matrix products
over the patches x̃ of the maps,

    g_W = gᵀ x̃,    g_x̃ = g W,    g_x = the sum of g_x̃ over the patches,

some samples at a time, so that patches stay in the cache. That is faster than the
library's strided convolutions. They are sums in another order than there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.functional import winograd
from bsnn_tha.functional.autocast import multiplies_bfloat16, unrounded
from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.running import Refused, note, plain
from bsnn_tha.functional.unrounded import conv2d
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.threads import share


class Geometry(NamedTuple):
    """What a convolution of bytes is besides its kernel."""

    stride: int = 1
    """Of the kernel that pools as well, if there is pooling."""
    scale: int = 1
    """What makes its values whole numbers."""
    padding: int = 0
    pool: int = 1
    """Of weights whose gradient is that of the kernel before pooling."""


def spike_conv2d(
    input: Tensor, weight: Tensor, stride: int = 1, scale: int = 1, padding: int = 0
) -> Tensor:
    """``nn.functional.conv2d`` for inputs that are spikes more often than not.

    The same bits forward for whole numbers of 0 to 127 and weights that are
    multiples of 1 / scale. It is ``conv2d`` itself for other values, for little to do,
    other dtypes than float32, on a GPU, without numba, and in compiled
    networks (what is decided here depends on values).

    Args:
        input: ``[samples, in, height, width]``.
        weight: ``[out, in, k, k]``.
        stride: of both dimensions.
        scale: of the weights; other than powers of two it is not taken.
        padding: zeros around each map.

    Returns:
        ``[samples, out, ...]``, channels last in the CPU's memory, in the weight's dtype.

    Example:
        >>> from torch.nn import functional as F
        >>> spikes, signs = torch.rand(64, 16, 14, 14).round(), torch.randn(32, 16, 5, 5).sign()
        >>> torch.equal(spike_conv2d(spikes, signs), F.conv2d(spikes, signs))
        True
    """
    geometry = Geometry(stride, scale, padding)
    found = _bytes(input, weight, geometry)
    if isinstance(found, Refused):
        return library_conv2d(input, weight, stride, padding)
    return _convolved(input, weight, found, geometry)


class ByteConvolution(NamedTuple):
    """The route of a current: :func:`spike_conv2d`, of the kernel that pools as well."""

    layer: Layer
    input: Tensor
    found: tuple[Tensor, Tensor]
    geometry: Geometry

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor) -> Self | Refused:
        """For ``[samples, in, height, width]``."""
        assert layer.convolution is not None
        stride, pool, padding, groups, _ = layer.convolution
        if groups > 1 or not (layer.convolution.composes or pool == 1):
            return Refused("its convolution has groups, a stride with pooling, or another pooling")
        if plain():
            return Refused("something is at work that takes PyTorch's own operations only")
        before_pooling = winograd.takes(layer.weight, stride, padding)
        geometry = Geometry(max(stride, pool), pool * pool, padding, pool if before_pooling else 1)
        weight = layer.weight if before_pooling else layer.pooled_kernel
        found = _bytes(input, weight, geometry)
        return found if isinstance(found, Refused) else cls(layer, input, found, geometry)

    def current(self) -> Tensor:
        """``[samples, out, ...]``, channels last in memory."""
        layer, input, found, geometry = self
        weight = layer.weight if geometry.pool > 1 else layer.pooled_kernel
        return _convolved(input, weight, found, geometry)


def _bytes(input: Tensor, weight: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor] | Refused:
    """Input (channels last) and kernel times its scale as bytes, or why not.

    Args:
        input, geometry: of the convolution.
        weight: its kernel; or what it pools, if the geometry does.
    """
    stride, scale, padding, pool = geometry
    outputs, _, size, _ = weight.shape
    kernel = size + pool - 1
    if torch.compiler.is_compiling() or plain():
        return Refused("something is at work that takes PyTorch's own operations only")
    if any(tensor.device.type != "cpu" for tensor in (input, weight)):
        return Refused("it needs tensors on the CPU")
    if any(type(tensor) not in (Tensor, torch.nn.Parameter) for tensor in (input, weight)):
        return Refused("it needs plain tensors")
    if input.dtype not in (torch.float32, torch.bfloat16) or weight.dtype != torch.float32:
        return Refused("it needs an input in float32 or bfloat16 and weights in float32")
    if scale & (scale - 1):
        return Refused("it pools by other than a power of two")
    if not input.numel() or min(input.shape[2:]) + 2 * padding < kernel:
        return Refused("its input is smaller than its kernel")
    if stride > kernel:
        return Refused("it leaves places out")
    padded = padding or winograd.takes(weight, stride // pool, padding)
    small = tuning.PADDED_CONV_SMALL if padded else tuning.SPIKE_CONV_SMALL
    if input.numel() * outputs * kernel**2 // stride**2 < small:
        return Refused("it is too little to do")
    loops = _compiled_loops()
    if loops is None:
        return Refused("numba does not work here")
    maps = loops.bytes_of(input)
    if maps is None:
        return Refused("its input is not whole numbers of 0 to 127")
    # A kernel that pools has its values divided already.
    signs = loops.signed_bytes_of(weight, scale if pool == 1 else 1)
    if signs is None:
        return Refused("its weights are no small whole numbers")
    if pool == 1:
        return maps, signs
    if int(signs.abs().max()) * scale > 127:
        return Refused("its weights are no small whole numbers")
    # Long rows: sums over the small squares of kernels would be slow.
    places = signs.permute(2, 3, 0, 1).contiguous()
    pooled = places.new_zeros(kernel, kernel, *signs.shape[:2])
    for y in range(pool):
        for x in range(pool):
            pooled[y : y + size, x : x + size] += places
    return maps, pooled.permute(2, 3, 0, 1).contiguous()


def _convolved(
    input: Tensor, weight: Tensor, found: tuple[Tensor, Tensor], geometry: Geometry
) -> Tensor:
    note("spike_conv")
    return SpikeConv.apply(input, weight, *found, geometry)


def library_conv2d(input: Tensor, weight: Tensor, stride: int, padding: int = 0) -> Tensor:
    """``conv2d``, in the layout that what comes next is fastest in."""
    note("conv2d")
    maps = conv2d(input, weight, stride, padding)
    if maps.device.type != "cpu" or plain():
        return maps
    return maps.contiguous(memory_format=torch.channels_last)


class SpikeConv(Function):
    """The convolution as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, maps: Tensor, signs: Tensor, geometry: Geometry
    ) -> Tensor:
        """``maps`` are the input as bytes, channels last; ``signs`` the kernel, times its scale.

        ``weight`` is what has a gradient: the kernel, or, if the geometry pools, that before it.
        """
        ctx.save_for_backward(weight, maps)
        ctx.geometry, ctx.input_dtype = geometry, input.dtype
        if _matrix_units():
            return _products_of_bytes(maps.permute(0, 3, 1, 2), signs, geometry)
        with unrounded():
            kernel = signs.to(weight.dtype) / geometry.scale
            return library_conv2d(input.to(weight.dtype), kernel, geometry.stride, geometry.padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Threads that share the work have gradients enabled.
        (g_output,), (weight, maps) = grads, (its.detach() for its in ctx.saved_tensors)
        stride, _, padding, pool = ctx.geometry
        with_input, with_weight = ctx.needs_input_grad[:2]
        g_input = g_weight = None
        if stride == pool and winograd.takes(weight, 1, padding):
            g_maps = g_output.permute(0, 2, 3, 1)
            if with_input:
                dtype = ctx.input_dtype
                g_input = winograd.input_gradient(g_maps, weight, maps.shape, padding, pool, dtype)
                g_input = g_input.permute(0, 3, 1, 2)
            if with_weight:
                g_weight = winograd.weight_gradient(g_maps, maps, padding, pool)
            return g_input, g_weight, *[None] * 3
        if ctx.input_dtype == torch.bfloat16 and multiplies_bfloat16():
            g_output = g_output.bfloat16()
        if padding:
            wanted = with_input, with_weight
            g_input, g_weight = _library_gradients(g_output, weight, maps, ctx.geometry, wanted)
        elif with_input:
            # As the patches: line by line, channels last.
            lines = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
            g_maps = g_output.permute(0, 2, 3, 1)
            g_input = input_gradient(g_maps, lines, maps.shape, stride).permute(0, 3, 1, 2)
        if with_weight and not padding:
            # The library's is faster in float32 where lines are short.
            if weight.shape[3] * weight.shape[1] < tuning.SHORT_LINE:
                wide, wanted = g_output.to(weight.dtype), (False, True)
                _, g_weight = _library_gradients(wide, weight, maps, ctx.geometry, wanted)
            else:
                g_weight = _weight_gradient(g_output, weight, maps, stride)
        return None if g_input is None else g_input.to(ctx.input_dtype), g_weight, *[None] * 3


def input_gradient(g_maps: Tensor, lines: Tensor, shape: Sequence[int], stride: int) -> Tensor:
    """Gradient of a convolution's input, by matrix products over patches.

    Args:
        g_maps: gradient of the result, ``[samples, rows, columns, out]``.
        lines: the kernel as rows of values, ``[out, k · k · in]``.
        shape: of the input, ``[samples, height, width, in]``.
        stride: of the convolution.

    Returns:
        Like the input; its dtype is that of ``g_maps``, in which products are rounded.
    """
    loops, outputs = _loops(), len(lines)
    kernel = math.isqrt(lines.shape[1] // shape[3])
    sizes = loops.Patches(*shape[1:], kernel, stride)
    lines, g_input = lines.to(g_maps.dtype), g_maps.new_empty(shape)

    def work(some: slice, patches: Tensor) -> None:
        torch.mm(g_maps[some].reshape(-1, outputs), lines, out=patches)
        loops.fold(patches, sizes, g_input[some])

    _share_patches(lambda part: work, len(g_maps), sizes, g_maps.dtype)
    return g_input


def _weight_gradient(g_output: Tensor, weight: Tensor, maps: Tensor, stride: int) -> Tensor:
    """The weight's gradient, by matrix products over patches."""
    loops, (outputs, channels, kernel, _) = _loops(), weight.shape
    sizes = loops.Patches(*maps.shape[1:], kernel, stride)
    g_maps = g_output.permute(0, 2, 3, 1)
    g_lines = weight.new_zeros(min(tuning.SPIKE_CONV_PARTS, len(maps)), outputs, sizes.length)

    def work_on(part: int) -> Callable[[slice, Tensor], None]:
        def work(some: slice, patches: Tensor) -> None:
            arriving = g_maps[some].reshape(-1, outputs).t()
            loops.unfold(maps[some], sizes, patches)
            if patches.dtype == g_lines.dtype:
                g_lines[part].addmm_(arriving, patches)
            else:
                g_lines[part] += arriving @ patches

        return work

    _share_patches(work_on, len(maps), sizes, g_maps.dtype)
    g_weight = g_lines.sum(0).view(outputs, kernel, kernel, channels)
    return g_weight.permute(0, 3, 1, 2).contiguous()


def _share_patches(
    work_on: Callable[[int], Callable[[slice, Tensor], None]],
    samples: int,
    sizes: Any,
    dtype: torch.dtype,
) -> None:
    """Call ``work_on(part)`` with some samples after others and room for their patches.

    The same parts for any number of threads, so that sums are the same.
    """
    parts, positions = min(tuning.SPIKE_CONV_PARTS, samples), sizes.rows * sizes.columns
    together = max(1, tuning.SPIKE_CONV_TOGETHER // (positions * sizes.length * dtype.itemsize))

    def task(part: int) -> None:
        first, last = samples * part // parts, samples * (part + 1) // parts
        room = torch.empty(min(together, last - first) * positions, sizes.length, dtype=dtype)
        work = work_on(part)
        for begin in range(first, last, together):
            some = slice(begin, min(begin + together, last))
            work(some, room[: (some.stop - begin) * positions])

    with torch.no_grad():
        share(task, parts, parts)


def _products_of_bytes(images: Tensor, signs: Tensor, geometry: Geometry) -> Tensor:
    """The library's convolution of quantized numbers, whose unit is 1 and 1 / scale."""
    outputs = len(signs)
    sizes = [geometry.stride] * 2, [geometry.padding] * 2, [1, 1], 1
    units, zeros = torch.full((outputs,), 1 / geometry.scale), torch.zeros(outputs).long()
    packed = torch.ops.onednn.qconv_prepack(signs, units, 1.0, 0, *sizes, list(images.shape))
    return torch.ops.onednn.qconv2d_pointwise(
        images, 1.0, 0, packed, units, zeros, None, *sizes, 1.0, 0, torch.float32, "none", [], ""
    )


def _library_gradients(
    g_output: Tensor, weight: Tensor, maps: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Those of input and weight that are wanted, by the library's convolution in g_output's dtype.

    The weight's is float32.
    """
    stride, _, padding, _ = geometry
    images = maps.permute(0, 3, 1, 2).to(g_output.dtype)
    g_input, g_weight, _ = torch.ops.aten.convolution_backward(
        g_output, images, weight.to(g_output.dtype), None, [stride] * 2, [padding] * 2, [1, 1],
        False, [0, 0], 1, [*wanted, False],
    )  # fmt: skip
    return g_input, None if g_weight is None else g_weight.to(weight.dtype).contiguous()


def _loops() -> ModuleType:
    loops = _compiled_loops()
    if loops is None:
        raise RuntimeError("spike_conv2d needs numba, which does not work here")
    return loops


@functools.cache
def _matrix_units() -> bool:
    """Whether bytes are multiplied faster than floats here, and exactly."""
    # Without VNNI (of which AMX is more), sums of two products saturate at 16 bits.
    try:
        if not torch.cpu._is_vnni_supported():
            return False
        image = torch.ones(1, 1, 3, 3, dtype=torch.uint8)
        result = _products_of_bytes(image, torch.ones(1, 1, 3, 3, dtype=torch.int8), Geometry(1, 4))
    except (AttributeError, RuntimeError):  # not in this version or build of PyTorch
        return False
    return result.flatten().tolist() == [9 / 4]


@functools.cache
def _compiled_loops() -> ModuleType | None:
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import spike_conv as spike_conv_numba

        spike_conv_numba.bytes_of(torch.ones(1, 1, 1, 1))
    except Exception:
        return None
    return spike_conv_numba
