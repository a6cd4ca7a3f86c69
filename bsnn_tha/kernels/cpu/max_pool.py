"""Loops of :mod:`bsnn_tha.functional.max_pool`, compiled by numba.

First down the columns of a row of windows, whole lines at a time, which fill vector registers;
then across what is left of each window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.compiled import run

MOST = 15
"""Side of a window: places within one are counted in 8 bits."""


def forward(maps: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """The greatest of each window of contiguous ``[..., height, width]``, and its place there."""
    height, width = maps.shape[-2:]
    shape = (*maps.shape[:-2], height // pool, width // pool)
    output, places = maps.new_empty(shape), torch.empty(shape, dtype=torch.uint8)
    arguments = _flat(maps), _flat(output), _flat(places), height, width
    count = maps.numel() // max(1, height * width)
    run(_forward_loop, (pool, maps.dtype), arguments, count, maps.numel() // tuning.POOL_THREAD)
    return output, places


def backward(g_output: Tensor, places: Tensor, pool: int, height: int, width: int) -> Tensor:
    """Gradient of the maps, ``[..., height, width]``, from a contiguous one of the output."""
    g_maps = g_output.new_empty((*g_output.shape[:-2], height, width))
    arguments = _flat(g_output), _flat(places), _flat(g_maps), height, width
    count = g_maps.numel() // max(1, height * width)
    run(
        _backward_loop, (pool, g_maps.dtype), arguments, count, g_maps.numel() // tuning.POOL_THREAD
    )
    return g_maps


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().view(-1).numpy()


# The loops. The dtype is for `run`, which compiles one for each.


def _forward_loop(pool: int, dtype: torch.dtype) -> Callable[..., None]:
    real = np.float64 if dtype == torch.float64 else np.float32

    def loop(maps, output, places, height, width, first, last):  # type: ignore[no-untyped-def]
        rows, columns = height // pool, width // pool
        # The greatest of a column within its windows, and in which of their rows it stands.
        tall, which = np.empty(width, real), np.empty(width, np.int32)
        for map in range(first, last):
            for row in range(rows):
                begin = (map * height + row * pool) * width
                line = maps[begin : begin + width]
                for i in range(width):
                    tall[i], which[i] = line[i], 0
                for down in range(1, pool):
                    line = maps[begin + down * width : begin + (down + 1) * width]
                    for i in range(width):
                        value = line[i]
                        # As PyTorch: of equal ones the first, of NaNs the last.
                        greater = (value > tall[i]) | (value != value)
                        tall[i] = value if greater else tall[i]
                        which[i] = down if greater else which[i]
                at = (map * rows + row) * columns
                best, place = output[at : at + columns], places[at : at + columns]
                for column in range(columns):
                    top, number = tall[column * pool], which[column * pool] * pool
                    for across in range(1, pool):
                        value = tall[column * pool + across]
                        own = which[column * pool + across] * pool + across
                        first_of_equal = (value == top) & (own < number)
                        last_nan = (value != value) & ((top == top) | (own > number))
                        greater = (value > top) | first_of_equal | last_nan
                        top = value if greater else top
                        number = own if greater else number
                    best[column], place[column] = top, number

    return loop


def _backward_loop(pool: int, dtype: torch.dtype) -> Callable[..., None]:
    def loop(g_output, places, g_maps, height, width, first, last):  # type: ignore[no-untyped-def]
        rows, columns = height // pool, width // pool
        for map in range(first, last):
            g_map = g_maps[map * height * width : (map + 1) * height * width]
            g_map[:] = 0
            at = map * rows * columns
            for row in range(rows):
                for column in range(columns):
                    place = np.int64(places[at])
                    line = row * pool + place // pool
                    g_map[line * width + column * pool + place % pool] = g_output[at]
                    at += 1

    return loop
