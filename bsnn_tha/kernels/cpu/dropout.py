"""Masks of :mod:`bsnn_tha.equations.dropout`, compiled by numba."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from torch import Tensor

from bsnn_tha.equations.dropout import limit
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.compiled import intrinsic, run


def drop(input: Tensor, probability: float, seed: int) -> Tensor:
    """The input without what the mask drops, contiguous."""
    input = input.detach().contiguous()
    output = torch.empty_like(input)
    columns = input.shape[-1] if input.dim() else 1
    rows = input.numel() // columns if columns else 0
    if input.dtype == torch.bfloat16:
        return drop(input.float(), probability, seed).bfloat16()
    run(
        _drop_loop,
        (input.dtype,),
        (
            input.view(-1).numpy(),
            output.view(-1).numpy(),
            columns,
            seed,
            np.uint32(limit(probability)),
            scale(probability, input.dtype),
        ),
        rows,
        input.numel() // tuning.DROPOUT_THREAD,
    )
    return output


def scale(probability: float, dtype: torch.dtype) -> np.floating:
    """What is kept is multiplied by it. As nn.Dropout rounds: the mask is divided first."""
    real = np.float64 if dtype == torch.float64 else np.float32
    return real(1) / real(1 - probability)


# What other compiled loops call as well.


@numba.njit(nogil=True)
def row_bits(seed, row):  # type: ignore[no-untyped-def]
    """64 bits for a row, as two of 32."""
    z = np.uint64(seed) + (np.uint64(row) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.uint32(z), np.uint32(z >> np.uint64(32))


@intrinsic
def hashed(context, low, high, column):  # type: ignore[no-untyped-def]
    """32 bits for an element, from those of its row and the number of its column.

    In the compiler's own words: numba would compute in 64 bits, which takes four
    times as long.
    """

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        def number(value: int) -> ir.Constant:
            return ir.Constant(bits, value)

        bits = ir.IntType(32)
        low, high, column = (builder.trunc(value, bits) for value in values)
        h = builder.xor(column, low)
        h = builder.xor(h, builder.lshr(h, number(16)))
        h = builder.xor(builder.mul(h, number(0x7FEB352D)), high)
        h = builder.xor(h, builder.lshr(h, number(15)))
        # Compared with a limit, high bits decide: they are mixed best by a product.
        return builder.mul(h, number(0x846CA68B))

    i64 = types.uint64
    return types.uint32(i64, i64, types.int64), build


# The loop. The dtype is for `run`, which compiles one for each.


def _drop_loop(dtype: torch.dtype) -> Callable[..., None]:
    nothing = np.float64(0) if dtype == torch.float64 else np.float32(0)

    def loop(input, output, columns, seed, limit, scale, first, last):  # type: ignore[no-untyped-def]
        for row in range(first, last):
            low, high = row_bits(seed, row)
            source = input[row * columns : (row + 1) * columns]
            target = output[row * columns : (row + 1) * columns]
            for column in range(columns):
                dropped = hashed(low, high, column) < limit
                # Multiplied, not chosen: a dropped infinity or NaN is NaN, as in nn.Dropout.
                target[column] = source[column] * (nothing if dropped else scale)

    return loop
