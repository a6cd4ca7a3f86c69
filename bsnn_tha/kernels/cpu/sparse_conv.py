"""Convolution with average pooling, spike by spike, compiled by numba.

A spike reaches (k / pool)² places, fewer at the border, and costs an addition of a vector for each:
all channels of a place lie together. So does its part of the weights' gradient
(:mod:`bsnn_tha.kernels.cpu.weight_gradient`). The input's gradient is not sparse:
:mod:`bsnn_tha.kernels.cpu.input_gradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import literally
from numba.extending import register_jitable
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.events import Events, events_of
from bsnn_tha.kernels.cpu.memory import REALS, memory_of
from bsnn_tha.kernels.cpu.vectors import add_row

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
        return min(
            -(-self.outputs // tuning.CONV_VECTOR) * tuning.CONV_VECTOR, tuning.CONV_MOST_LANES
        )

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

    @property
    def taps_shape(self) -> tuple[int, ...]:
        """Of a kernel as the loops read it, for the channels of a block."""
        return self.kernel, self.pool, self.channels, self.reach, self.lanes

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
    kernel, size, outputs = geometry.kernel, geometry.size, geometry.blocks * geometry.lanes
    values = torch.zeros(geometry.blocks, *geometry.taps_shape, dtype=torch.int16)
    lanes = weight.new_zeros(size, size, geometry.channels, outputs)
    lanes[..., : geometry.outputs] = weight.detach().permute(2, 3, 1, 0)
    largest = np.zeros(kernel, np.int64)
    arguments = lanes.numpy(), values.numpy(), largest
    run(_weights_loop, (weight.dtype,), arguments, kernel, values.numel() // tuning.CONV_THREAD)
    # A row with other values has a negative one.
    return None if largest.min() < 0 else Weights(values, int(largest.max()))


def listed(input: Tensor, weights: Weights, most: int) -> Events | None:
    """The spikes of a window ``[time, batch, in]``; None if there are more, or other values."""
    return events_of(input, most, _LARGEST_SUM // max(weights.largest, 1))


def convolve(events: Events, taps: Taps, weights: Tensor, geometry: Geometry, maps: Tensor) -> None:
    """Writes ``[samples, rows, columns, out]``; in int16 the sums, without their unit."""
    whole = maps.dtype == torch.int16
    run(
        _convolve_loop,
        (geometry.lanes, geometry.reach, maps.dtype),
        (
            events.starts.numpy(),
            events.columns.numpy(),
            taps,
            weights.view(-1).numpy(),
            None if whole else REALS[maps.dtype](geometry.unit),
            memory_of(maps),
            *maps.shape[1:],
            geometry.line,
            geometry.area,
        ),
        len(maps),
        maps.numel() // tuning.CONV_THREAD,
    )


def unpooled(g_weights: Tensor, geometry: Geometry) -> Tensor:
    """The weight's gradient ``[out, in, k, k]`` from what :func:`add_taps` summed."""
    size, outputs = geometry.size, geometry.blocks * geometry.lanes
    lanes = g_weights.new_zeros(size, size, geometry.channels, outputs)
    arguments = g_weights.numpy(), REALS[lanes.dtype](geometry.unit), lanes.numpy()
    threads = g_weights.numel() // tuning.CONV_THREAD
    run(_unpooled_loop, (lanes.dtype,), arguments, size, threads)
    return lanes.permute(3, 2, 0, 1)[: geometry.outputs].contiguous()


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


def _unpooled_loop(dtype: torch.dtype) -> Callable[..., None]:
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


# Loops over spikes and gradients.


@register_jitable
def place_of(packed):  # type: ignore[no-untyped-def]
    """Row, first output column and rest of :attr:`Taps.place`."""
    place = np.int64(packed)
    return place >> _COLUMN + _REST, place >> _REST & (1 << _COLUMN) - 1, place & (1 << _REST) - 1


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


@numba.njit(nogil=True)
def into_margins(source, at, outputs, target, rows, columns, line, lanes, reach, width):  # type: ignore[no-untyped-def]
    """Channels of one sample's maps to where the scans keep them."""
    # A row at once, if all channels are.
    runs, length = (1, columns * lanes) if outputs == lanes else (columns, width)
    for row in range(rows):
        for column in range(runs):
            of = at + (row * columns + column) * outputs
            to = (row * line + column + reach - 1) * lanes
            read, written = source[of : of + length], target[to : to + length]
            for i in range(length):
                written[i] = widened(read[i])


@numba.njit(nogil=True)
def from_margins(source, target, at, outputs, rows, columns, line, lanes, reach, width):  # type: ignore[no-untyped-def]
    """The other way round."""
    runs, length = (1, columns * lanes) if outputs == lanes else (columns, width)
    for row in range(rows):
        for column in range(runs):
            to = at + (row * columns + column) * outputs
            of = (row * line + column + reach - 1) * lanes
            read, written = source[of : of + length], target[to : to + length]
            for i in range(length):
                written[i] = narrowed(read[i], target)


def _convolve_loop(lanes: int, reach: int, dtype: torch.dtype) -> Callable[..., None]:
    # A loop of whole numbers has no unit: they stay as they are.
    real, span = REALS.get(dtype, np.int16), reach * lanes

    def loop(  # type: ignore[no-untyped-def]
        starts, events, taps, weights, unit, maps, rows, columns, outputs, line, area, first, last
    ):  # fmt: skip
        sums = np.empty(area * lanes, np.int16)
        blocks = -(-outputs // lanes)
        kernel = len(weights) // blocks
        for sample in range(first, last):
            for block in range(blocks):
                channel = block * lanes
                these = weights[block * kernel : (block + 1) * kernel]
                sums[:] = 0
                add_taps(
                    sums, these, taps, events, starts[sample], starts[sample + 1], lanes, span, True
                )
                # A row at once, if all channels are.
                runs, length = columns, min(lanes, outputs - channel)
                if outputs == lanes:
                    runs, length = 1, columns * lanes
                for row in range(rows):
                    for column in range(runs):
                        of = (row * line + column + reach - 1) * lanes
                        to = ((sample * rows + row) * columns + column) * outputs + channel
                        read, written = sums[of : of + length], maps[to : to + length]
                        for i in range(length):
                            written[i] = read[i] if unit is None else real(read[i]) * unit

    return loop
