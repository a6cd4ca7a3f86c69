"""Loops of :mod:`bsnn_tha.functional.winograd`, compiled by numba.

Maps are seen as they lie in memory, channels last; a value of a tile is a vector of channels. Some
samples are worked on together. Their tiles are transformed first; then for each vector of channels
the products of all places of a tile are summed in registers and transformed back from the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.memory import memory_of
from bsnn_tha.kernels.cpu.vectors import (
    TO_TILES,
    add_outer_products,
    add_products,
    aligned_zeros,
    transform,
)

STEP, SIZE, KERNEL = 4, 6, 3
"""Places in a row that a tile has to itself, of a transformed tile, and of a kernel."""


class Tiles(NamedTuple):
    """How the maps of some samples are cut."""

    samples: int
    down: int
    across: int

    @classmethod
    def of(cls, samples: int, rows: int, columns: int) -> Tiles:
        """Such that each place of maps is one that a tile has to itself."""
        return cls(samples, -(-rows // STEP), -(-columns // STEP))

    @property
    def total(self) -> int:
        """Of all samples."""
        return self.samples * self.down * self.across


def input_gradient(
    g_maps: Tensor, kernels: Tensor, padding: int, pool: int, tiles: Tiles, g_input: Tensor
) -> None:
    """Write the gradient of some samples' input, ``[samples, height, width, in]``.

    Args:
        g_maps: ``[samples, rows, columns, out]``.
        kernels: float32 ``[3, 3, out, in]``.
        padding: of the convolution.
        pool: of the pooling behind it.
        tiles: that cover the input.
        g_input: where to.
    """
    depth = g_maps.shape[3]
    # Tiles in as few rounds as there can be; the last one's may be more than there are.
    count = -(-tiles.total // -(-tiles.total // tuning.CONV_MOST_SUMS))
    arriving = _expanded(g_maps, tiles, KERNEL - 1 - padding, "of inputs", pool, more=count)
    channels, lanes = g_input.shape[3], tuning.CONV_VECTOR
    run(
        _input_gradient_loop,
        (count, depth, g_input.dtype),
        (
            arriving.view(-1).numpy(), kernels.view(-1).numpy(), memory_of(g_input),
            arriving.shape[1], *g_input.shape[1:], *tiles,
        ),
        channels // lanes,
        tiles.total * depth * channels // tuning.CONV_THREAD,
    )  # fmt: skip


def add_weight_gradient(
    g_maps: Tensor, maps: Tensor, padding: int, pool: int, tiles: Tiles, g_weights: Tensor
) -> None:
    """Add the weights' gradient, float32 ``[3, 3, out, in]``, of some samples.

    Args:
        g_maps: ``[samples, rows, columns, out]``.
        maps: the input, ``[samples, height, width, in]``.
        padding: of the convolution.
        pool: of the pooling behind it.
        tiles: that cover ``g_maps``.
        g_weights: to which.
    """
    arriving = _expanded(g_maps, tiles, 0, "of outputs", pool, packed=True)
    seen = _expanded(maps, tiles, padding, "of inputs", packed=True)
    outputs, channels, lanes = g_maps.shape[3], maps.shape[3], tuning.CONV_VECTOR
    run(
        _weight_gradient_loop,
        (),
        (
            arriving.view(-1).numpy(), seen.view(-1).numpy(), g_weights.view(-1).numpy(),
            arriving.shape[1], seen.shape[1], tiles.total, outputs, channels,
        ),
        outputs // lanes * (channels // lanes),
        tiles.total * outputs * channels // tuning.CONV_THREAD,
    )  # fmt: skip


def _expanded(
    maps: Tensor,
    tiles: Tiles,
    before: int,
    matrix: str,
    pool: int = 1,
    packed: bool = False,
    more: int = 0,
) -> Tensor:
    """Transformed tiles, ``[36, at least tiles · channels]``.

    Args:
        maps: ``[samples, height, width, channels]``; bytes, float32 or bfloat16.
        tiles: that cover them.
        before: zeros above and left of the maps.
        matrix: of :data:`~bsnn_tha.kernels.cpu.vectors.TO_TILES`.
        pool: size of the squares whose places are each its value, divided by their number.
        packed: whether channels lie vector by vector, or all of a tile together.
        more: tiles that there is room for.
    """
    channels, lanes = maps.shape[3], tuning.CONV_VECTOR
    # A line of the cache more: what is a power of two apart pushes each other out.
    room = torch.empty(SIZE * SIZE, (tiles.total + more) * channels + lanes)
    tile_apart, block_apart = (lanes, tiles.total * lanes) if packed else (channels, lanes)
    run(
        _expand_loop,
        (matrix, maps.dtype),
        (
            memory_of(maps), room.view(-1).numpy(), room.shape[1], tile_apart, block_apart,
            *maps.shape[1:], before, pool, *tiles,
        ),
        tiles.samples * (channels // lanes),
        room.numel() // tuning.CONV_THREAD,
    )  # fmt: skip
    return room


# The loops.


def _expand_loop(matrix: str, dtype: torch.dtype) -> Callable[..., None]:
    lanes, size = tuning.CONV_VECTOR, len(TO_TILES[matrix][0])

    def loop(  # type: ignore[no-untyped-def]
        maps, room, apart, tile_apart, block_apart,
        height, width, channels, before, pool, samples, down, across, first, last,
    ):  # fmt: skip
        line = STEP * (across - 1) + size
        image = aligned_zeros((STEP * (down - 1) + size) * line * lanes, np.float32)
        blocks, share = channels // lanes, np.float32(1 / pool**2)
        for index in range(first, last):
            sample, block = index // blocks, index % blocks
            for y in range(height * pool):
                for x in range(width * pool):
                    of = ((sample * height + y // pool) * width + x // pool) * channels
                    to = ((y + before) * line + x + before) * lanes
                    begin = of + block * lanes
                    read, written = maps[begin : begin + lanes], image[to : to + lanes]
                    for i in range(lanes):
                        written[i] = widened(read[i]) * share
            for y in range(down):
                for x in range(across):
                    of = (y * line + x) * STEP * lanes
                    tile = (sample * down + y) * across + x
                    to = tile * tile_apart + block * block_apart
                    transform(
                        image, of, line * lanes, lanes, room, to, SIZE * apart, apart, matrix, lanes
                    )

    return loop


def _input_gradient_loop(count: int, depth: int, dtype: torch.dtype) -> Callable[..., None]:
    lanes = tuning.CONV_VECTOR
    of_kernels, to_maps = "of kernels", "to maps"

    def loop(  # type: ignore[no-untyped-def]
        arriving, kernels, g_input,
        apart, height, width, channels, samples, down, across, first, last,
    ):  # fmt: skip
        tiles = samples * down * across
        line = STEP * across
        image = aligned_zeros(STEP * down * line * lanes, np.float32)
        whole = (tiles + count) * lanes
        sums = aligned_zeros(SIZE * SIZE * whole, np.float32)
        these = aligned_zeros(SIZE * SIZE * depth * lanes, np.float32)
        targets = np.arange(tiles + count) * lanes
        last_value = KERNEL * KERNEL - 1
        for block in range(first, last):
            channel = block * lanes
            for k in range(depth):
                # Turned round: from the last value on.
                of = (last_value * depth + k) * channels + channel
                transform(
                    kernels, of, -KERNEL * depth * channels, -depth * channels,
                    these, k * lanes, SIZE * depth * lanes, depth * lanes, of_kernels, lanes,
                )  # fmt: skip
            sums[:] = 0
            for place in range(SIZE * SIZE):
                for begin in range(0, tiles, count):
                    add_products(
                        arriving, place * apart + begin * depth, these, place * depth * lanes,
                        sums, place * whole, targets, begin, count, depth, lanes,
                    )  # fmt: skip
            for sample in range(samples):
                for y in range(down):
                    for x in range(across):
                        of = ((sample * down + y) * across + x) * lanes
                        to = (y * line + x) * STEP * lanes
                        transform(
                            sums, of, SIZE * whole, whole, image, to, line * lanes, lanes,
                            to_maps, lanes,
                        )  # fmt: skip
                for y in range(height):
                    for x in range(width):
                        of = (y * line + x) * lanes
                        to = ((sample * height + y) * width + x) * channels + channel
                        read, written = image[of : of + lanes], g_input[to : to + lanes]
                        for i in range(lanes):
                            written[i] = narrowed(read[i], g_input)

    return loop


def _weight_gradient_loop() -> Callable[..., None]:
    lanes, to_kernels = tuning.CONV_VECTOR, "to kernels"
    square = lanes * lanes

    def loop(  # type: ignore[no-untyped-def]
        arriving, seen, g_weights, arriving_apart, seen_apart, tiles, outputs, channels, first, last
    ):  # fmt: skip
        sums = aligned_zeros(SIZE * SIZE * square, np.float32)
        added = aligned_zeros(KERNEL * KERNEL * lanes, np.float32)
        blocks = channels // lanes
        for index in range(first, last):
            output, channel = index // blocks, index % blocks
            sums[:] = 0
            for place in range(SIZE * SIZE):
                add_outer_products(
                    arriving, place * arriving_apart + output * tiles * lanes,
                    seen, place * seen_apart + channel * tiles * lanes,
                    sums, place * square, tiles, lanes,
                )  # fmt: skip
            for i in range(lanes):
                transform(
                    sums, i * lanes, SIZE * square, square, added, 0, KERNEL * lanes, lanes,
                    to_kernels, lanes,
                )  # fmt: skip
                for tap in range(KERNEL * KERNEL):
                    at = (tap * outputs + output * lanes + i) * channels + channel * lanes
                    read, total = added[tap * lanes : (tap + 1) * lanes], g_weights[at : at + lanes]
                    for lane in range(lanes):
                        total[lane] += read[lane]

    return loop
