"""The gradient of a convolution's weights, spike by spike, compiled by numba.

An input that spikes sees a value of the kernel through each output that it reaches, and
adds that output's gradient to the value's. The spikes of some samples are sorted by the values
that they see: a row of sums then stays in registers while its spikes are gone through, and
an addition of a vector is a single instruction.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.events import Events
from bsnn_tha.kernels.cpu.memory import REALS, memory_of
from bsnn_tha.kernels.cpu.sparse_conv import Geometry, Taps, into_margins, place_of, unpooled
from bsnn_tha.kernels.cpu.vectors import add_rows, aligned_zeros


def weight_gradient(
    events: Events, taps: Taps, g_maps: Tensor, geometry: Geometry, dtype: torch.dtype
) -> Tensor:
    """``[out, in, k, k]`` of this dtype.

    Args:
        events, taps: spikes of ``[samples, in]``, and where each goes.
        g_maps: gradient of what :func:`~bsnn_tha.kernels.cpu.sparse_conv.convolve` writes.
    """
    parts = min(tuning.CONV_PARTS, len(g_maps))
    shape = geometry.blocks, parts, *geometry.taps_shape
    g_weights = torch.zeros(shape, dtype=dtype)
    run(
        _weight_gradient_loop,
        (geometry.lanes, geometry.reach, dtype, g_maps.dtype),
        (
            events.starts.numpy(),
            events.columns.numpy(),
            taps,
            memory_of(g_maps),
            g_weights.view(-1).numpy(),
            *g_maps.shape,
            geometry.line,
            geometry.area,
            geometry.kernel,
            max(1, tuning.CONV_TOGETHER // (geometry.area * geometry.lanes)),
            parts,
        ),
        geometry.blocks * parts,
        g_maps.numel() // tuning.CONV_THREAD,
    )
    return unpooled(g_weights.sum(1), geometry)


# The loops.


@numba.njit(nogil=True, error_model="numpy")
def _find_keys(taps, rows_seen, lanes, keys, places):  # type: ignore[no-untyped-def]
    """What spikes of an input are sorted by, and the first output that sees it from above.

    A key counts the rests of the input's column and row by the pooling and its channel, which say
    what values of the kernel it sees, and then the row, which says through which outputs.
    """
    pool, padding, _, line = taps.sizes
    for i in range(len(taps.place)):
        row, column, rest = place_of(taps.place[i])
        above, row_rest = (row + padding) // pool, (row + padding) % pool
        keys[i] = (rest * pool + row_rest) * rows_seen + above
        places[i] = (above * line + column) * lanes


@numba.njit(nogil=True)
def _sort(columns, starts, first, last, keys, places, area, ends, found):  # type: ignore[no-untyped-def]
    """Places of some samples' spikes by their keys; ``ends`` is where each key's end."""
    ends[:] = 0
    for k in range(starts[first], starts[last]):
        ends[keys[columns[k]] + 1] += 1
    for key in range(1, len(ends)):
        ends[key] += ends[key - 1]
    for sample in range(first, last):
        at = (sample - first) * area
        for k in range(starts[sample], starts[sample + 1]):
            key = keys[columns[k]]
            found[ends[key]] = at + places[columns[k]]
            ends[key] += 1


def _weight_gradient_loop(
    lanes: int, reach: int, dtype: torch.dtype, g_dtype: torch.dtype
) -> Callable[..., None]:
    real, span = REALS[dtype], reach * lanes

    def loop(  # type: ignore[no-untyped-def]
        starts, events, taps, g_maps, g_weights,
        samples, rows, columns, outputs, line, area, kernel, together, parts, first, last,
    ):  # fmt: skip
        pool, padding, line_of_kernel, _ = taps.sizes
        # What does not belong to an output, the margins, stays zero.
        gradient = aligned_zeros(together * area * lanes, real)
        size = len(g_weights) // (-(-outputs // lanes) * parts)
        rows_seen = (len(taps.first_row) - 1 + padding) // pool + 1
        keys, places_of = np.empty((2, len(taps.place)), np.int32)
        _find_keys(taps, rows_seen, lanes, keys, places_of)
        ends = np.empty(line_of_kernel * pool * rows_seen + 1, np.int32)
        most = 0
        for sample in range(samples):
            most = max(most, starts[min(sample + together, samples)] - starts[sample])
        places = np.empty(most, np.int32)
        for index in range(first, last):
            block, part = index // parts, index % parts
            channel = block * lanes
            width = min(lanes, outputs - channel)
            these = g_weights[index * size : (index + 1) * size]
            end = samples * (part + 1) // parts
            for begin in range(samples * part // parts, end, together):
                some = min(begin + together, end)
                for sample in range(begin, some):
                    at = sample * rows * columns * outputs + channel
                    to = (sample - begin) * area * lanes
                    into_margins(
                        g_maps, at, outputs, gradient[to : to + area * lanes],
                        rows, columns, line, lanes, reach, width,
                    )  # fmt: skip
                _sort(events, starts, begin, some, keys, places_of, area * lanes, ends, places)
                for rest in range(line_of_kernel):
                    for y in range(kernel):
                        # Rows of inputs that see an output through row y of the kernel.
                        above = y // pool
                        key = (rest * pool + y % pool) * rows_seen
                        since, until = key + above, key + min(above + rows, rows_seen)
                        if since >= until:
                            continue
                        sees = ends[since - 1] if since > 0 else 0
                        if sees == ends[until - 1]:
                            continue
                        to = (y * line_of_kernel + rest) * span
                        add_rows(
                            these, to, gradient, places, sees, ends[until - 1],
                            above * line * lanes, span,
                        )  # fmt: skip

    return loop
