"""Loops of :mod:`bsnn_tha.functional.winograd`, compiled by numba.

Some samples are worked on together. Their tiles are transformed first; then, for each vector of
channels, the products of all places of a tile are summed in registers and transformed back from the
cache. Threads take groups of samples; where those are few, each has a slice of the channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.memory import memory_of
from bsnn_tha.kernels.cpu.tiles import (
    KERNEL,
    PLACES,
    SIZE,
    STEP,
    Grid,
    cut,
    image_of,
    transform,
)
from bsnn_tha.kernels.cpu.vectors import add_outer_products, add_products, aligned_zeros


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


# The loops.


def _taps_loop() -> Callable[..., None]:
    lanes, values = tuning.CONV_VECTOR, KERNEL * KERNEL

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
    lanes = tuning.CONV_VECTOR
    of_outputs, of_kernels, to_inputs = "of outputs", "of kernels", "to inputs"

    def loop(  # type: ignore[no-untyped-def]
        g_maps, taps, g_input, grid,
        height, width, channels, stride, padding, blocks, slices, vectors, kept, first, last,
    ):  # fmt: skip
        places, tiles_each = grid.rows * grid.columns, grid.down * grid.across
        most = grid.together * tiles_each
        image = aligned_zeros(vectors * lanes, np.float32)
        # A line of the cache more: what is a power of two apart pushes each other out.
        apart = (most + count) * depth + lanes
        arriving = aligned_zeros(PLACES * apart, np.float32)
        whole = (most + count) * lanes
        sums = aligned_zeros(PLACES * whole, np.float32)
        one = PLACES * depth * lanes
        kernels = aligned_zeros(kept * one, np.float32)
        transformed = np.zeros(kept, np.bool_)
        targets = np.arange(most + count) * lanes
        # Of the input with its padding: all that tiles reach, or more.
        line = max(stride * (STEP * grid.across + KERNEL - 1), width + padding)
        area = max(stride * (STEP * grid.down + KERNEL - 1), height + padding) * line
        maps = aligned_zeros(grid.together * area * lanes, np.float32)
        tap, side = blocks * depth * lanes, KERNEL * stride
        held = -1
        for index in range(first, last):
            group, part = index // slices, index % slices
            begin = group * grid.together
            some = min(grid.together, grid.samples - begin)
            if group != held:
                held = group
                for sample in range(some):
                    for channel in range(0, depth, lanes):
                        cut(
                            g_maps, (begin + sample) * places * depth + channel,
                            grid.rows, grid.columns, depth, grid.pool, 0, grid.down, grid.across,
                            image, arriving, sample * tiles_each * depth + channel, apart, depth,
                            of_outputs,
                        )  # fmt: skip
            tiles = some * tiles_each
            for block in range(blocks * part // slices, blocks * (part + 1) // slices):
                maps[:] = 0
                # Every stride-th place of the input sees one of stride² small kernels.
                for phase in range(stride * stride):
                    y, x = phase // stride, phase % stride
                    these = (block * stride * stride + phase) % kept
                    if kept == 1 or not transformed[these]:
                        transformed[these] = True
                        for k in range(depth):
                            of = (y * side + x) * tap + (block * depth + k) * lanes
                            transform(
                                taps, of, stride * side * tap, stride * tap,
                                kernels, these * one + k * lanes,
                                SIZE * depth * lanes, depth * lanes, of_kernels, False, lanes,
                            )  # fmt: skip
                    for place in range(PLACES):
                        for tile in range(0, tiles, count):
                            add_products(
                                arriving, place * apart + tile * depth,
                                kernels, these * one + place * depth * lanes,
                                sums, place * whole, targets, tile, count, depth, False, lanes,
                            )  # fmt: skip
                    for tile in range(tiles):
                        sample, its = tile // tiles_each, tile % tiles_each
                        row, column = its // grid.across * STEP, its % grid.across * STEP
                        to = sample * area + (row * stride + y) * line + column * stride + x
                        transform(
                            sums, tile * lanes, SIZE * whole, whole, maps, to * lanes,
                            stride * line * lanes, stride * lanes, to_inputs, True, lanes,
                        )  # fmt: skip
                # A row at once, if all channels are.
                runs, length = width, min(lanes, channels - block * lanes)
                if channels == lanes:
                    runs, length = 1, width * lanes
                for sample in range(some):
                    for row in range(height):
                        of = (sample * area + (row + padding) * line + padding) * lanes
                        to = ((begin + sample) * height + row) * width * channels + block * lanes
                        for _ in range(runs):
                            read, written = maps[of : of + length], g_input[to : to + length]
                            for i in range(length):
                                written[i] = narrowed(read[i], g_input)
                            of += lanes
                            to += channels

    return loop


def _weight_gradient_loop(g_dtype: torch.dtype, dtype: torch.dtype) -> Callable[..., None]:
    lanes = tuning.CONV_VECTOR
    of_outputs, of_inputs, to_kernels = "of outputs", "of inputs", "to kernels"
    square, values = lanes * lanes, KERNEL * KERNEL

    def loop(  # type: ignore[no-untyped-def]
        g_maps, maps, g_weights, grid,
        height, width, channels, outputs, padding, parts, slices, g_vectors, vectors,
        first, last,
    ):  # fmt: skip
        tiles_each, blocks = grid.down * grid.across, channels // lanes
        most = grid.together * tiles_each
        # Rooms have a line of the cache more: what is a power of two apart pushes each other out.
        g_image = aligned_zeros(g_vectors * lanes, np.float32)
        g_apart = most * lanes + lanes
        arriving = aligned_zeros(PLACES * g_apart, np.float32)
        image = aligned_zeros(vectors * lanes, np.float32)
        apart = most * channels + lanes
        seen = aligned_zeros(PLACES * apart, np.float32)
        sums = aligned_zeros(PLACES * square, np.float32)
        added = aligned_zeros(KERNEL * KERNEL * lanes, np.float32)
        groups = -(-grid.samples // grid.together)
        for index in range(first, last):
            part, its = index // slices, index % slices
            all_outputs = outputs // lanes
            begin_output = all_outputs * its // slices
            end_output = all_outputs * (its + 1) // slices
            for group in range(groups * part // parts, groups * (part + 1) // parts):
                begin = group * grid.together
                some = min(grid.together, grid.samples - begin)
                tiles = some * tiles_each
                for sample in range(some):
                    for block in range(blocks):
                        of = (begin + sample) * height * width * channels + block * lanes
                        cut(
                            maps, of, height, width, channels, 1, padding, grid.down, grid.across,
                            image, seen, (block * most + sample * tiles_each) * lanes, apart, lanes,
                            of_inputs,
                        )  # fmt: skip
                for output in range(begin_output, end_output):
                    for sample in range(some):
                        of = (begin + sample) * grid.rows * grid.columns * outputs + output * lanes
                        cut(
                            g_maps, of, grid.rows, grid.columns, outputs, grid.pool, 0,
                            grid.down, grid.across, g_image, arriving,
                            sample * tiles_each * lanes, g_apart, lanes, of_outputs,
                        )  # fmt: skip
                    for block in range(blocks):
                        sums[:] = 0
                        for place in range(PLACES):
                            add_outer_products(
                                arriving, place * g_apart, seen,
                                place * apart + block * most * lanes,
                                sums, place * square, tiles, lanes,
                            )  # fmt: skip
                        for i in range(lanes):
                            transform(
                                sums, i * lanes, SIZE * square, square, added, 0, KERNEL * lanes,
                                lanes, to_kernels, False, lanes,
                            )  # fmt: skip
                            at = (part * outputs + output * lanes + i) * channels + block * lanes
                            total = g_weights[at * values : (at + lanes) * values]
                            for lane in range(lanes):
                                for tap in range(values):
                                    total[lane * values + tap] += added[tap * lanes + lane]

    return loop
