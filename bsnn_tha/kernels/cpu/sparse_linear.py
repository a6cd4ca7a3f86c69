"""Products with few non-zero inputs, compiled by numba: the loops of `sparse_linear`.

A zero costs nothing. A non-zero input adds a row of the transposed weights to
its output, in blocks of outputs whose weights fit the second-level cache.
Backward, it adds its output's gradient to a row of the weights' gradient.

Every output is a sum in the order of the inputs, every gradient one in the order
of the samples, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.compiled import run


def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``[samples, in]`` times ``[out, in]``, plus bias: ``[samples, out]``."""
    samples, outputs = len(input), len(weight)
    starts, columns, values = nonzero(input)
    output = input.new_empty(samples, outputs)
    start = input.new_zeros(outputs) if bias is None else bias.detach()
    run(
        _forward_loop,
        (input.dtype,),
        (
            starts,
            columns,
            values,
            weight.detach().t().contiguous().view(-1).numpy(),
            start.contiguous().numpy(),
            output.view(-1).numpy(),
            outputs,
            tuning.SPARSE_LINEAR_BLOCK,
            tuning.SPARSE_LINEAR_SAMPLES,
        ),
        -(-samples // tuning.SPARSE_LINEAR_SAMPLES) * -(-outputs // tuning.SPARSE_LINEAR_BLOCK),
        len(columns) * outputs // tuning.SPARSE_LINEAR_THREAD,
    )
    return output


def gradient(input: Tensor, g_output: Tensor) -> Tensor:
    """Gradient of the weight, ``[out, in]``."""
    outputs = g_output.shape[1]
    starts, columns, values = nonzero(input)
    transposed = input.new_zeros(input.shape[1], outputs)
    run(
        _gradient_loop,
        (input.dtype,),
        (
            starts,
            columns,
            values,
            g_output.detach().contiguous().view(-1).numpy(),
            transposed.view(-1).numpy(),
            outputs,
            tuning.SPARSE_LINEAR_BLOCK,
        ),
        -(-outputs // tuning.SPARSE_LINEAR_BLOCK),
        len(columns) * outputs // tuning.SPARSE_LINEAR_THREAD,
    )
    return transposed.t()


def nonzero(input: Tensor) -> tuple[Any, Any, Any]:
    """Where each sample's non-zero inputs start, which they are and what they are."""
    samples, width = input.shape
    array = input.detach().contiguous().view(-1).numpy()
    starts = np.zeros(samples + 1, np.int64)
    run(_count_loop, (input.dtype,), (array, width, starts), samples, 1)
    np.cumsum(starts, out=starts)
    columns = np.empty(starts[-1], np.int32)
    values = np.empty(starts[-1], array.dtype)
    run(_gather_loop, (input.dtype,), (array, width, starts, columns, values), samples, 1)
    return starts, columns, values


# The loops. The dtype is for `run`, which compiles one for each.


def _count_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(array, width, starts, first, last):  # type: ignore[no-untyped-def]
        for sample in range(first, last):
            row = array[sample * width : (sample + 1) * width]
            count = 0
            for i in range(width):
                count += row[i] != 0
            starts[sample + 1] = count

    return loop


def _gather_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(array, width, starts, columns, values, first, last):  # type: ignore[no-untyped-def]
        for sample in range(first, last):
            row = array[sample * width : (sample + 1) * width]
            at = starts[sample]
            for i in range(width):
                if row[i] != 0:
                    columns[at], values[at] = i, row[i]
                    at += 1

    return loop


def _forward_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(  # type: ignore[no-untyped-def]
        starts, columns, values, weight, start, output, outputs, block, samples, first, last
    ):  # fmt: skip
        batch = len(starts) - 1
        rows = (batch + samples - 1) // samples
        for index in range(first, last):
            # Neighbours share their weights.
            begin, at = index % rows * samples, index // rows * block
            size = min(block, outputs - at)
            initial = start[at : at + size]
            for sample in range(begin, min(begin + samples, batch)):
                of = sample * outputs + at
                sums = output[of : of + size]
                for i in range(size):
                    sums[i] = initial[i]
                k, end = starts[sample], starts[sample + 1]
                # Four inputs each time the sums are read and written.
                while k + 4 <= end:
                    of = columns[k] * outputs + at
                    value, signs = values[k], weight[of : of + size]
                    of = columns[k + 1] * outputs + at
                    value1, signs1 = values[k + 1], weight[of : of + size]
                    of = columns[k + 2] * outputs + at
                    value2, signs2 = values[k + 2], weight[of : of + size]
                    of = columns[k + 3] * outputs + at
                    value3, signs3 = values[k + 3], weight[of : of + size]
                    for i in range(size):
                        total = sums[i] + value * signs[i]
                        total += value1 * signs1[i]
                        total += value2 * signs2[i]
                        sums[i] = total + value3 * signs3[i]
                    k += 4
                for last_k in range(k, end):
                    of = columns[last_k] * outputs + at
                    value, signs = values[last_k], weight[of : of + size]
                    for i in range(size):
                        sums[i] += value * signs[i]

    return loop


def _gradient_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(  # type: ignore[no-untyped-def]
        starts, columns, values, g_output, g_weight, outputs, block, first, last
    ):  # fmt: skip
        for index in range(first, last):
            at = index * block
            size = min(block, outputs - at)
            for sample in range(len(starts) - 1):
                of = sample * outputs + at
                upstream = g_output[of : of + size]
                for k in range(starts[sample], starts[sample + 1]):
                    value, of = values[k], columns[k] * outputs + at
                    sums = g_weight[of : of + size]
                    for i in range(size):
                        sums[i] += value * upstream[i]

    return loop
