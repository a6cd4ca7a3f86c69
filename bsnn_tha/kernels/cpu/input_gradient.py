"""The gradient of a convolution's input: a product of matrices, compiled by numba.

It is dense, and goes a tap of the kernel at a time, where :mod:`bsnn_tha.functional.winograd` has
nothing better: the gradients of as many places as there are registers, times that tap's weights,
added to what those places see. Nothing is copied into patches, and sums stay in registers: about
the rate of a large matrix product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.memory import REALS, memory_of
from bsnn_tha.kernels.cpu.sparse_conv import Geometry
from bsnn_tha.kernels.cpu.vectors import add_products


def input_gradient(
    g_maps: Tensor, weights: Tensor, geometry: Geometry, dtype: torch.dtype
) -> Tensor:
    """Gradient of the input, ``[samples, height, width, in]``.

    Args:
        g_maps: ``[samples, rows, columns, out]``.
        weights: of :func:`~bsnn_tha.kernels.cpu.sparse_conv.weights_of`.
        dtype: of the gradient, which is computed in float64 or float32.
    """
    channels, height, width, outputs, *_ = geometry
    places = geometry.rows * geometry.columns
    # Places in as few tiles as there can be.
    count = -(-places // -(-places // tuning.CONV_MOST_SUMS))
    g_input = g_maps.new_empty(len(g_maps), height, width, channels, dtype=dtype)
    wide = torch.promote_types(g_maps.dtype, torch.float32)
    run(
        _input_gradient_loop,
        (count, outputs, wide, g_maps.dtype, dtype),
        (
            memory_of(g_maps),
            taps_by_channel(weights, geometry, wide).view(-1).numpy(),
            memory_of(g_input),
            channels,
            height,
            width,
            geometry.kernel,
            geometry.pool,
            geometry.padding,
            geometry.rows,
            geometry.columns,
        ),
        len(g_maps),
        g_input.numel() // tuning.CONV_THREAD,
    )
    return g_input


def taps_by_channel(
    weights: Tensor, geometry: Geometry, dtype: torch.dtype, side: int | None = None
) -> Tensor:
    """Kernels whose inner dimension are input channels, ``[side², blocks, out, CONV_VECTOR]``.

    Args:
        weights: of :func:`~bsnn_tha.kernels.cpu.sparse_conv.weights_of`.
        geometry: theirs.
        dtype: float64 or float32.
        side: of the kernel with zeros below and right of it; its own.
    """
    side = side or geometry.kernel
    blocks = -(-geometry.channels // tuning.CONV_VECTOR)
    taps = torch.zeros(side**2, blocks, geometry.outputs, tuning.CONV_VECTOR, dtype=dtype)
    arguments = weights.numpy(), REALS[dtype](geometry.unit), taps.numpy(), geometry.channels, side
    run(_taps_loop, (dtype,), arguments, geometry.kernel, taps.numel() // tuning.CONV_THREAD)
    return taps


# The loops.


def _taps_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(weights, unit, taps, channels, side, first, last):  # type: ignore[no-untyped-def]
        blocks, kernel, pool, _, reach, lanes = weights.shape
        outputs = taps.shape[2]
        for y in range(first, last):
            for x in range(kernel):
                for channel in range(channels):
                    vector, lane = channel // tuning.CONV_VECTOR, channel % tuning.CONV_VECTOR
                    these = taps[y * side + x, vector, :, lane]
                    for block in range(blocks):
                        whole = weights[block, y, x % pool, channel, reach - 1 - x // pool]
                        for i in range(min(lanes, outputs - block * lanes)):
                            these[block * lanes + i] = whole[i] * unit

    return loop


def _input_gradient_loop(
    count: int, depth: int, dtype: torch.dtype, maps_dtype: torch.dtype, g_dtype: torch.dtype
) -> Callable[..., None]:
    real = REALS[dtype]
    lanes = tuning.CONV_VECTOR

    def loop(  # type: ignore[no-untyped-def]
        g_maps, taps, g_input,
        channels, height, width, kernel, stride, padding, rows, columns, first, last,
    ):  # fmt: skip
        places, blocks = rows * columns, -(-channels // lanes)
        # The map with its padding, and a place for outputs that do not exist.
        across = max((columns - 1) * stride + kernel, width + padding)
        nowhere = max((rows - 1) * stride + kernel, height + padding) * across
        image = np.empty((nowhere + kernel * across) * lanes, real)
        targets = np.full(places + count, nowhere * lanes)
        for row in range(rows):
            for column in range(columns):
                targets[row * columns + column] = (row * across + column) * stride * lanes
        gradient = np.zeros((places + count) * depth, real)
        for sample in range(first, last):
            at = sample * places * depth
            arriving = g_maps[at : at + places * depth]
            for i in range(places * depth):
                gradient[i] = widened(arriving[i])
            for block in range(blocks):
                image[:] = real(0)
                for tap in range(kernel * kernel):
                    of = (tap * blocks + block) * depth * lanes
                    to = (tap // kernel * across + tap % kernel) * lanes
                    for begin in range(0, places, count):
                        add_products(
                            gradient, begin * depth, taps, of, image, to, targets, begin,
                            count, depth, True, lanes,
                        )  # fmt: skip
                channel = block * lanes
                # A row at once, if all channels are.
                runs, length = width, min(lanes, channels - channel)
                if channels == lanes:
                    runs, length = 1, width * lanes
                for y in range(height):
                    for x in range(runs):
                        of = ((y + padding) * across + x + padding) * lanes
                        to = ((sample * height + y) * width + x) * channels + channel
                        read, written = image[of : of + length], g_input[to : to + length]
                        for i in range(length):
                            written[i] = narrowed(read[i], g_input)

    return loop
