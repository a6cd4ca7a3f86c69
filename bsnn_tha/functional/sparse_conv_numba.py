"""Convolution with average pooling, spike by spike, compiled by numba.

A spike reaches (k / pool)² places, fewer at the border, and costs an addition of a vector for each:
all channels of a place lie together. What wants a gradient is dense, and its product with the
weights one of matrices, a tap of the kernel at a time: the gradients of as many places as
there are registers times that tap's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import literally
from torch import Tensor

from bsnn_tha.functional.bfloat16_numba import narrowed
from bsnn_tha.functional.compiled import run
from bsnn_tha.functional.events_numba import Events, events_of
from bsnn_tha.functional.lif_numba_scans import REALS
from bsnn_tha.functional.vectors_numba import add_products, add_row

# Channels come in multiples of a vector, as many at a time.
_VECTOR = 16
_MOST_LANES = 64
# Sums of a matrix product that stay in registers: of 32, one is for the weights.
_MOST_SUMS = 28
# Values of a window for which waking a thread pays.
WORTH_A_THREAD = 1 << 16
# A place in an input is kept in 32 bits: of its row, of its column, and of the rest.
_ROW, _COLUMN, _REST = 10, 10, 12
# Of whole weights, in the 16 bits that they are added up in.
_LARGEST_SUM = (1 << 15) - 1


class Geometry(NamedTuple):
    """Sizes of a convolution with average pooling: which input reaches which outputs."""

    channels: int
    height: int
    width: int
    outputs: int
    size: int
    """Of the kernel before pooling."""
    pool: int
    padding: int

    @property
    def kernel(self) -> int:
        """Size of the kernel that pools as well; its stride is ``pool``."""
        return self.size + self.pool - 1

    @property
    def unit(self) -> float:
        """Current of a weight of 1."""
        return 1 / self.pool**2

    @property
    def rows(self) -> int:
        """Of an output map."""
        return (self.height + 2 * self.padding - self.kernel) // self.pool + 1

    @property
    def columns(self) -> int:
        """Of an output map."""
        return (self.width + 2 * self.padding - self.kernel) // self.pool + 1

    @property
    def lanes(self) -> int:
        """Output channels that are worked on together."""
        return min(-(-self.outputs // _VECTOR) * _VECTOR, _MOST_LANES)

    @property
    def blocks(self) -> int:
        """How many times the lanes."""
        return -(-self.outputs // self.lanes)

    @property
    def reach(self) -> int:
        """Neighbours in a row of outputs that see an input, but for those at the border."""
        return -(-self.kernel // self.pool)

    @property
    def line(self) -> int:
        """Columns of an output map with a margin, in which each input reaches as many outputs.

        Rows share it: what is behind the end of one is before the beginning of the next.
        """
        beyond = (self.width - 1 + self.padding) // self.pool - (self.columns - 1)
        return self.columns + max(self.reach - 1, beyond)

    @property
    def area(self) -> int:
        """Places in an output map with margins."""
        last = max((self.width - 1 + self.padding) // self.pool, self.columns - 1)
        return (self.rows - 1) * self.line + last + self.reach

    def fits(self) -> bool:
        """Whether places can be numbered, and there are any."""
        return (
            min(self.rows, self.columns) > 0
            and self.height <= 1 << _ROW
            and self.line <= 1 << _COLUMN
            and self.channels * self.pool <= 1 << _REST
        )


class Taps(NamedTuple):
    """Where the spike of an input goes."""

    place: Any
    """For each input, in the order of memory, in one uint32: its row, the first of the outputs in a
    row that see it, and which of the kernel's values they see it through."""
    first_row: Any
    end_row: Any
    """Of the outputs that see a row of the input."""
    sizes: Any
    """Pooling, padding, the kernel's values in a row, and the outputs' in a row."""

    @classmethod
    def of(cls, geometry: Geometry, order: tuple[int, ...]) -> Taps:
        """Taps for inputs of which channel, row and column lie in this order in memory."""
        channels, height, width, _, _, pool, padding = geometry
        channel, row, column = np.indices((channels, height, width), np.uint32)
        column += np.uint32(padding)
        rest = column % pool * channels + channel
        place = (row << _COLUMN | column // pool) << _REST | rest
        rows = np.arange(height) + padding
        return cls(
            np.ascontiguousarray(place.transpose(order), np.uint32).ravel(),
            np.maximum(-((geometry.kernel - 1 - rows) // pool), 0),
            np.minimum(rows // pool + 1, geometry.rows),
            np.array([pool, padding, pool * channels, geometry.line], np.int64),
        )


class Weights(NamedTuple):
    """A kernel as the scans read it."""

    values: Tensor
    """Times pool², int16 ``[blocks, kernel, pool, in, reach, lanes]``."""
    largest: int
    """The largest absolute value."""


def weights_of(weight: Tensor, geometry: Geometry) -> Weights | None:
    """A binary kernel ``[out, in, k, k]`` with its pooling; None if it has no whole values."""
    kernel, channels, reach = geometry.kernel, geometry.channels, geometry.reach
    shape = geometry.blocks, kernel, geometry.pool, channels, reach, geometry.lanes
    values = torch.zeros(shape, dtype=torch.int16)
    lanes = weight.new_zeros(geometry.size, geometry.size, channels, shape[0] * shape[-1])
    lanes[..., : geometry.outputs] = weight.detach().permute(2, 3, 1, 0)
    largest = np.zeros(kernel, np.int64)
    arguments = lanes.numpy(), values.numpy(), largest
    run(_weights_loop, (weight.dtype,), arguments, kernel, values.numel() // WORTH_A_THREAD)
    # A row with other values has a negative one.
    return None if largest.min() < 0 else Weights(values, int(largest.max()))


def listed(input: Tensor, weights: Weights, most: int) -> Events | None:
    """The spikes of a window ``[time, batch, in]``; None if there are more, or other values."""
    return events_of(input, most, _LARGEST_SUM // max(weights.largest, 1))


def weight_gradient(g_weights: Tensor, geometry: Geometry) -> Tensor:
    """``[out, in, k, k]`` from what the scans summed."""
    size, outputs = geometry.size, geometry.blocks * geometry.lanes
    lanes = g_weights.new_zeros(size, size, geometry.channels, outputs)
    arguments = g_weights.numpy(), REALS[lanes.dtype](geometry.unit), lanes.numpy()
    threads = g_weights.numel() // WORTH_A_THREAD
    run(_weight_gradient_loop, (lanes.dtype,), arguments, size, threads)
    return lanes.permute(3, 2, 0, 1)[: geometry.outputs].contiguous()


def input_gradient(
    g_current: Tensor, weights: Tensor, geometry: Geometry, dtype: torch.dtype
) -> Tensor:
    """Gradient of the input, ``[samples, height, width, in]``.

    Args:
        g_current: ``[samples, rows, columns, out]``.
        weights: of :func:`weights_of`.
        dtype: of the gradient.
    """
    channels, height, width, outputs, *_ = geometry
    places = geometry.rows * geometry.columns
    # Places in as few tiles as there can be.
    count = -(-places // -(-places // _MOST_SUMS))
    g_input = g_current.new_empty(len(g_current), height, width, channels, dtype=dtype)
    run(
        _input_gradient_loop,
        (count, outputs, g_current.dtype, dtype),
        (
            g_current.view(-1).numpy(),
            _taps_by_channel(weights, geometry, g_current.dtype).view(-1).numpy(),
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
        len(g_current),
        g_input.numel() // WORTH_A_THREAD,
    )
    return g_input


def _taps_by_channel(weights: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """Kernels whose inner dimension are input channels, ``[k · k, blocks, out, _VECTOR]``."""
    blocks = -(-geometry.channels // _VECTOR)
    taps = torch.zeros(geometry.kernel**2, blocks, geometry.outputs, _VECTOR, dtype=dtype)
    arguments = weights.numpy(), REALS[dtype](geometry.unit), taps.numpy(), geometry.channels
    run(_taps_loop, (dtype,), arguments, len(taps), taps.numel() // WORTH_A_THREAD)
    return taps


def memory_of(window: Tensor) -> Any:
    """A contiguous tensor as loops see it: bfloat16 as integers."""
    flat = window.view(-1)
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()


# Weights in other orders. The column kx of a kernel is column % pool at reach − 1 − kx // pool:
# an input sees the kernel's columns from right to left, every pool-th of them.


def _weights_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(weight, values, largest, first, last):  # type: ignore[no-untyped-def]
        blocks, kernel, pool, channels, reach, lanes = values.shape
        size = len(weight)
        total = np.empty(blocks * lanes, weight.dtype)
        for y in range(first, last):
            wrong, most = 0, np.int64(0)
            for x in range(kernel):
                for channel in range(channels):
                    total[:] = 0
                    for row in range(max(y - pool + 1, 0), min(y + 1, size)):
                        for column in range(max(x - pool + 1, 0), min(x + 1, size)):
                            added = weight[row, column, channel]
                            for i in range(blocks * lanes):
                                total[i] += added[i]
                    for block in range(blocks):
                        whole = values[block, y, x % pool, channel, reach - 1 - x // pool]
                        for i in range(lanes):
                            value = total[block * lanes + i]
                            fits = abs(value) <= _LARGEST_SUM  # not so for NaN
                            whole[i] = np.int16(value if fits else 0)
                            wrong += whole[i] != value
                            most = max(most, abs(np.int64(whole[i])))
            largest[y] = -1 if wrong else most

    return loop


def _weight_gradient_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(g_weights, unit, gradient, first, last):  # type: ignore[no-untyped-def]
        blocks, _, pool, channels, reach, lanes = g_weights.shape
        for row in range(first, last):
            for column in range(len(gradient)):
                for channel in range(channels):
                    for block in range(blocks):
                        total = gradient[row, column, channel, block * lanes : (block + 1) * lanes]
                        for y in range(row, row + pool):
                            for x in range(column, column + pool):
                                of = reach - 1 - x // pool
                                added = g_weights[block, y, x % pool, channel, of]
                                for i in range(lanes):
                                    total[i] += added[i]
                        for i in range(lanes):
                            total[i] *= unit

    return loop


def _taps_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(weights, unit, taps, channels, first, last):  # type: ignore[no-untyped-def]
        blocks, kernel, pool, _, reach, lanes = weights.shape
        outputs = taps.shape[2]
        for tap in range(first, last):
            y, x = tap // kernel, tap % kernel
            for channel in range(channels):
                these = taps[tap, channel // _VECTOR, :, channel % _VECTOR]
                for block in range(blocks):
                    whole = weights[block, y, x % pool, channel, reach - 1 - x // pool]
                    for i in range(min(lanes, outputs - block * lanes)):
                        these[block * lanes + i] = whole[i] * unit

    return loop


# Loops over spikes and gradients.


@numba.njit(nogil=True, error_model="numpy")
def add_taps(outputs, weights, taps, columns, begin, end, lanes, span, spread):  # type: ignore[no-untyped-def]
    """Each spike's weights to the outputs that it reaches; or, not ``spread``, the other way."""
    literally(span)
    stride, padding, line_of_kernel, line = taps.sizes
    for k in range(begin, end):
        place = np.int64(taps.place[columns[k]])
        row = place >> _COLUMN + _REST
        at = (place >> _REST & (1 << _COLUMN) - 1) * lanes
        of = ((row + padding) * line_of_kernel + (place & (1 << _REST) - 1)) * span
        # Where rows end is hard to foresee for the processor, so that all have one length.
        for y in range(taps.first_row[row], taps.end_row[row]):
            to, through = at + y * line * lanes, of - y * stride * line_of_kernel * span
            if spread:
                add_row(outputs, to, weights, through, span)
            else:
                add_row(weights, through, outputs, to, span)


def _input_gradient_loop(
    count: int, depth: int, dtype: torch.dtype, g_dtype: torch.dtype
) -> Callable[..., None]:
    real = REALS[dtype]
    lanes = _VECTOR

    def loop(  # type: ignore[no-untyped-def]
        g_current, taps, g_input,
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
            gradient[: places * depth] = g_current[at : at + places * depth]
            for block in range(blocks):
                image[:] = real(0)
                for tap in range(kernel * kernel):
                    of = (tap * blocks + block) * depth * lanes
                    to = (tap // kernel * across + tap % kernel) * lanes
                    for begin in range(0, places, count):
                        add_products(
                            gradient, begin * depth, taps, of, image, to, targets, begin,
                            count, depth, lanes,
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
