"""Loops of :mod:`bsnn_tha.functional.winograd`, compiled by numba.

Some samples are worked on together. Their tiles are transformed first; then, for each vector of
channels, the products of all places of a tile are summed in registers and transformed back from the
cache. Threads take groups of samples; where those are few, each has a slice of the channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numba.extending import register_jitable
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.memory import memory_of
from bsnn_tha.kernels.cpu.tiles import Grid, cut, image_of, transform
from bsnn_tha.kernels.cpu.vectors import add_outer_products, add_products, aligned_zeros
from bsnn_tha.kernels.winograd_matrices import KERNEL, PLACES, SIZE, STEP


def input_gradient(
    g_maps: Tensor, taps: Tensor, stride: int, padding: int, pool: int, g_input: Tensor
) -> None:
    """Write the gradient of the input, ``[samples, height, width, in]``.

    Args:
        g_maps: ``[samples, rows, columns, out]``.
        taps: float32 ``[(3 stride)², blocks, out, CONV_VECTOR]``: the kernel's values by input
            channels, in blocks.
        stride, padding: of the convolution.
        pool: of the pooling behind it, if its kernel does not pool.
        g_input: where to.
    """
    _, blocks, depth, _ = taps.shape
    grid = Grid.of(g_maps, pool, kernels=stride**2)
    tiles = grid.together * grid.down * grid.across
    # Tiles in as few rounds as there can be; the last one's may be more than there are.
    count = -(-tiles // -(-tiles // tuning.CONV_MOST_SUMS))
    slices = _slices(grid.groups, blocks)
    kernels = blocks * stride**2
    kept = kernels if kernels * depth <= tuning.WINOGRAD_KEPT else 1
    run(
        _input_gradient_loop,
        (count, depth, g_maps.dtype, g_input.dtype),
        (
            memory_of(g_maps), taps.view(-1).numpy(), memory_of(g_input), grid,
            *g_input.shape[1:], stride, padding, blocks, slices, image_of("of outputs", grid), kept,
        ),
        grid.groups * slices,
        g_maps.numel() * taps.shape[1] // tuning.CONV_THREAD,
    )  # fmt: skip


def taps_of(weight: Tensor) -> Tensor:
    """What :func:`input_gradient` reads, of ``[out, in, 3, 3]`` in whole blocks of channels."""
    outputs, channels = weight.shape[:2]
    blocks = channels // tuning.CONV_VECTOR
    taps = torch.empty(KERNEL**2, blocks, outputs, tuning.CONV_VECTOR)
    arguments = weight.view(-1).numpy(), taps.view(-1).numpy(), outputs, blocks
    run(_taps_loop, (), arguments, outputs, taps.numel() // tuning.CONV_THREAD)
    return taps


def weight_gradient(g_maps: Tensor, maps: Tensor, padding: int, pool: int) -> Tensor:
    """The weights' gradient, float32 ``[out, in, 3, 3]``.

    Args:
        g_maps: ``[samples, rows, columns, out]``.
        maps: the input, ``[samples, height, width, in]``.
        padding: of the convolution.
        pool: of the pooling behind it.
    """
    outputs, channels, lanes = g_maps.shape[3], maps.shape[3], tuning.CONV_VECTOR
    grid = Grid.of(g_maps, pool, kernels=1)
    numbers = KERNEL**2 * outputs * channels
    parts = max(1, min(tuning.CONV_PARTS, grid.groups, tuning.WINOGRAD_WEIGHTS // numbers))
    slices = _slices(parts, outputs // lanes)
    g_weights = torch.zeros(parts, outputs, channels, KERNEL, KERNEL)
    run(
        _weight_gradient_loop,
        (g_maps.dtype, maps.dtype),
        (
            memory_of(g_maps), memory_of(maps), g_weights.view(-1).numpy(), grid,
            *maps.shape[1:], outputs, padding, parts, slices,
            image_of("of outputs", grid), image_of("of inputs", grid),
        ),
        parts * slices,
        g_maps.numel() * (channels // lanes) // tuning.CONV_THREAD,
    )  # fmt: skip
    return g_weights.sum(0) if parts > 1 else g_weights[0]


def _slices(groups: int, most: int) -> int:
    """Of the channels of each group, so that all threads have something to do.

    What is computed does not depend on it; each slice transforms its group's tiles for itself.
    """
    threads = torch.get_num_threads()
    return 1 if threads == 1 else min(most, -(-2 * threads // max(1, groups)))


# The loops, and what they are made of.

_LANES = tuning.CONV_VECTOR
_VALUES = KERNEL * KERNEL


@register_jitable
def _cut_outputs(  # type: ignore[no-untyped-def]
    g_maps, grid, begin, some, channel, depth, image, room, to, place_apart, tile_apart
):  # fmt: skip
    """A vector of channels of some samples' gradients, from ``channel`` on, as tiles."""
    places, tiles_each = grid.rows * grid.columns, grid.down * grid.across
    for sample in range(some):
        cut(
            g_maps, (begin + sample) * places * depth + channel,
            grid.rows, grid.columns, depth, grid.pool, 0, grid.down, grid.across,
            image, room, to + sample * tiles_each * tile_apart, place_apart, tile_apart,
            "of outputs",
        )  # fmt: skip


@register_jitable
def _transform_kernels(taps, of, down, across, kernels, to, depth):  # type: ignore[no-untyped-def]
    """Kernels from ``of`` on, for one vector of input channels and all outputs."""
    for k in range(depth):
        transform(
            taps, of + k * _LANES, down, across, kernels, to + k * _LANES,
            SIZE * depth * _LANES, depth * _LANES, "of kernels", False, _LANES,
        )  # fmt: skip


@register_jitable
def _join(sums, apart, tiles, grid, maps, to, stride, line, area):  # type: ignore[no-untyped-def]
    """Add tiles, transformed back, to the places of maps that they belong to."""
    tiles_each = grid.down * grid.across
    for tile in range(tiles):
        sample, its = tile // tiles_each, tile % tiles_each
        row, column = its // grid.across * STEP, its % grid.across * STEP
        place = to + sample * area + (row * line + column) * stride
        transform(
            sums, tile * _LANES, SIZE * apart, apart, maps, place * _LANES,
            stride * line * _LANES, stride * _LANES, "to inputs", True, _LANES,
        )  # fmt: skip


@register_jitable
def _write(maps, padding, line, area, some, g_input, begin, height, width, channels, channel):  # type: ignore[no-untyped-def]  # fmt: skip
    """A vector of channels, from ``channel`` on, of some samples' maps without their padding."""
    # A row at once, if all channels are.
    runs, length = width, min(_LANES, channels - channel)
    if channels == _LANES:
        runs, length = 1, width * _LANES
    for sample in range(some):
        for row in range(height):
            of = (sample * area + (row + padding) * line + padding) * _LANES
            to = ((begin + sample) * height + row) * width * channels + channel
            for _ in range(runs):
                read, written = maps[of : of + length], g_input[to : to + length]
                for i in range(length):
                    written[i] = narrowed(read[i], g_input)
                of += _LANES
                to += channels


@register_jitable
def _add_kernels(sums, apart, added, g_weights, of, channels):  # type: ignore[no-untyped-def]
    """Add kernels, transformed back, of a vector of outputs and one of input channels."""
    for output in range(_LANES):
        transform(
            sums, output * _LANES, SIZE * apart, apart, added, 0, KERNEL * _LANES, _LANES,
            "to kernels", False, _LANES,
        )  # fmt: skip
        at = (of + output * channels) * _VALUES
        total = g_weights[at : at + _LANES * _VALUES]
        for lane in range(_LANES):
            for tap in range(_VALUES):
                total[lane * _VALUES + tap] += added[tap * _LANES + lane]


def _taps_loop() -> Callable[..., None]:
    lanes, values = _LANES, _VALUES

    def loop(weight, taps, outputs, blocks, first, last):  # type: ignore[no-untyped-def]
        for output in range(first, last):
            for block in range(blocks):
                of = (output * blocks + block) * lanes * values
                read = weight[of : of + lanes * values]
                for tap in range(values):
                    to = ((tap * blocks + block) * outputs + output) * lanes
                    written = taps[to : to + lanes]
                    for lane in range(lanes):
                        written[lane] = read[lane * values + tap]

    return loop


def _input_gradient_loop(
    count: int, depth: int, dtype: torch.dtype, g_dtype: torch.dtype
) -> Callable[..., None]:
    lanes = _LANES

    def loop(  # type: ignore[no-untyped-def]
        g_maps, taps, g_input, grid,
        height, width, channels, stride, padding, blocks, slices, vectors, kept, first, last,
    ):  # fmt: skip
        most = grid.together * grid.down * grid.across
        image = aligned_zeros(vectors * lanes, np.float32)
        # A line of the cache more: what is a power of two apart pushes each other out.
        apart = (most + count) * depth + lanes
        arriving = aligned_zeros(PLACES * apart, np.float32)
        sums_apart = (most + count) * lanes
        sums = aligned_zeros(PLACES * sums_apart, np.float32)
        targets = np.arange(most + count) * lanes
        of_block = PLACES * depth * lanes
        kernels = aligned_zeros(kept * of_block, np.float32)
        transformed = np.zeros(kept, np.bool_)
        # Of the input with its padding: all that tiles reach, or more.
        line = max(stride * (STEP * grid.across + KERNEL - 1), width + padding)
        area = max(stride * (STEP * grid.down + KERNEL - 1), height + padding) * line
        maps = aligned_zeros(grid.together * area * lanes, np.float32)
        tap, side, phases = blocks * depth * lanes, KERNEL * stride, stride * stride
        held = -1
        for index in range(first, last):
            group, part = index // slices, index % slices
            begin = group * grid.together
            some = min(grid.together, grid.samples - begin)
            tiles = some * grid.down * grid.across
            if group != held:
                held = group
                for channel in range(0, depth, lanes):
                    _cut_outputs(
                        g_maps, grid, begin, some, channel, depth, image,
                        arriving, channel, apart, depth,
                    )  # fmt: skip
            for block in range(blocks * part // slices, blocks * (part + 1) // slices):
                maps[:] = 0
                # Every stride-th place of the input sees one of stride² small kernels.
                for phase in range(phases):
                    y, x = phase // stride, phase % stride
                    these = (block * phases + phase) % kept
                    if kept == 1 or not transformed[these]:
                        transformed[these] = True
                        of = (y * side + x) * tap + block * depth * lanes
                        _transform_kernels(
                            taps, of, stride * side * tap, stride * tap,
                            kernels, these * of_block, depth,
                        )  # fmt: skip
                    for place in range(PLACES):
                        for tile in range(0, tiles, count):
                            add_products(
                                arriving, place * apart + tile * depth,
                                kernels, these * of_block + place * depth * lanes,
                                sums, place * sums_apart, targets, tile,
                                count, depth, False, lanes,
                            )  # fmt: skip
                    _join(sums, sums_apart, tiles, grid, maps, y * line + x, stride, line, area)
                _write(
                    maps, padding, line, area, some,
                    g_input, begin, height, width, channels, block * lanes,
                )  # fmt: skip

    return loop


def _weight_gradient_loop(g_dtype: torch.dtype, dtype: torch.dtype) -> Callable[..., None]:
    lanes = _LANES
    of_inputs, square = "of inputs", lanes * lanes

    def loop(  # type: ignore[no-untyped-def]
        g_maps, maps, g_weights, grid,
        height, width, channels, outputs, padding, parts, slices, g_vectors, vectors, first, last,
    ):  # fmt: skip
        tiles_each, blocks, g_blocks = grid.down * grid.across, channels // lanes, outputs // lanes
        most = grid.together * tiles_each
        # Rooms have a line of the cache more: what is a power of two apart pushes each other out.
        g_image = aligned_zeros(g_vectors * lanes, np.float32)
        g_apart = most * lanes + lanes
        arriving = aligned_zeros(PLACES * g_apart, np.float32)
        image = aligned_zeros(vectors * lanes, np.float32)
        apart = most * channels + lanes
        seen = aligned_zeros(PLACES * apart, np.float32)
        sums = aligned_zeros(PLACES * square, np.float32)
        added = aligned_zeros(_VALUES * lanes, np.float32)
        groups = -(-grid.samples // grid.together)
        for index in range(first, last):
            part, its = index // slices, index % slices
            for group in range(groups * part // parts, groups * (part + 1) // parts):
                begin = group * grid.together
                some = min(grid.together, grid.samples - begin)
                for sample in range(some):
                    for block in range(blocks):
                        of = (begin + sample) * height * width * channels + block * lanes
                        cut(
                            maps, of, height, width, channels, 1, padding, grid.down, grid.across,
                            image, seen, (block * most + sample * tiles_each) * lanes, apart, lanes,
                            of_inputs,
                        )  # fmt: skip
                for output in range(g_blocks * its // slices, g_blocks * (its + 1) // slices):
                    _cut_outputs(
                        g_maps, grid, begin, some, output * lanes, outputs, g_image,
                        arriving, 0, g_apart, lanes,
                    )  # fmt: skip
                    for block in range(blocks):
                        sums[:] = 0
                        for place in range(PLACES):
                            add_outer_products(
                                arriving, place * g_apart, seen,
                                place * apart + block * most * lanes,
                                sums, place * square, some * tiles_each, lanes,
                            )  # fmt: skip
                        of = (part * outputs + output * lanes) * channels + block * lanes
                        _add_kernels(sums, square, added, g_weights, of, channels)

    return loop
