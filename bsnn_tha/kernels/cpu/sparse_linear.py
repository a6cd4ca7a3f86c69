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


def listed(input: Tensor, starts: Tensor, columns: Tensor) -> bool:
    """Write where each sample's non-zero inputs start and which they are, if there is room.

    Args:
        input: ``[samples, in]``.
        starts: int64 ``[samples + 1]``.
        columns: int32, as many as there may be.
    """
    samples, width = input.shape
    array, begins = _flat(input), starts.numpy()
    begins[0] = 0
    run(_count_loop, (input.dtype,), (array, width, begins), samples, 1)
    np.cumsum(begins, out=begins)
    if begins[-1] > len(columns):
        return False
    run(_gather_loop, (input.dtype,), (array, width, begins, columns.numpy()), samples, 1)
    return True


def forward(
    input: Tensor, starts: Tensor, columns: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """``[samples, in]`` times ``[out, in]``, plus bias: ``[samples, out]``."""
    samples, outputs = len(input), len(weight)
    output = input.new_empty(samples, outputs)
    start = input.new_zeros(outputs) if bias is None else bias.detach()
    block = tuning.SPARSE_LINEAR_BLOCK
    run(
        _forward_loop,
        (input.dtype,),
        (
            starts.numpy(),
            columns.numpy(),
            _flat(input),
            _flat(weight.t()),
            start.contiguous().numpy(),
            output.view(-1).numpy(),
            input.shape[1],
            outputs,
            block,
            tuning.SPARSE_LINEAR_SAMPLES,
        ),
        -(-samples // tuning.SPARSE_LINEAR_SAMPLES) * -(-outputs // block),
        int(starts[-1]) * outputs // tuning.SPARSE_LINEAR_THREAD,
    )
    return output


def gradient(input: Tensor, starts: Tensor, columns: Tensor, g_output: Tensor) -> Tensor:
    """Gradient of the weight, ``[out, in]``."""
    outputs, block = g_output.shape[1], tuning.SPARSE_LINEAR_BLOCK
    transposed = input.new_zeros(input.shape[1], outputs)
    run(
        _gradient_loop,
        (input.dtype,),
        (
            starts.numpy(),
            columns.numpy(),
            _flat(input),
            _flat(g_output),
            transposed.view(-1).numpy(),
            input.shape[1],
            outputs,
            block,
        ),
        -(-outputs // block),
        int(starts[-1]) * outputs // tuning.SPARSE_LINEAR_THREAD,
    )
    return transposed.t()


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().view(-1).numpy()


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
    def loop(array, width, starts, columns, first, last):  # type: ignore[no-untyped-def]
        for sample in range(first, last):
            row = array[sample * width : (sample + 1) * width]
            at = starts[sample]
            for i in range(width):
                if row[i] != 0:
                    columns[at] = i
                    at += 1

    return loop


def _forward_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(  # type: ignore[no-untyped-def]
        starts, columns, input, weight, start, output, width, outputs, block, samples, first, last
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
                values = input[sample * width : (sample + 1) * width]
                # Four inputs each time the sums are read and written.
                while k + 4 <= end:
                    of = columns[k] * outputs + at
                    value, signs = values[columns[k]], weight[of : of + size]
                    of = columns[k + 1] * outputs + at
                    value1, signs1 = values[columns[k + 1]], weight[of : of + size]
                    of = columns[k + 2] * outputs + at
                    value2, signs2 = values[columns[k + 2]], weight[of : of + size]
                    of = columns[k + 3] * outputs + at
                    value3, signs3 = values[columns[k + 3]], weight[of : of + size]
                    for i in range(size):
                        total = sums[i] + value * signs[i]
                        total += value1 * signs1[i]
                        total += value2 * signs2[i]
                        sums[i] = total + value3 * signs3[i]
                    k += 4
                for last_k in range(k, end):
                    of = columns[last_k] * outputs + at
                    value, signs = values[columns[last_k]], weight[of : of + size]
                    for i in range(size):
                        sums[i] += value * signs[i]

    return loop


def _gradient_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(  # type: ignore[no-untyped-def]
        starts, columns, input, g_output, g_weight, width, outputs, block, first, last
    ):  # fmt: skip
        for index in range(first, last):
            at = index * block
            size = min(block, outputs - at)
            for sample in range(len(starts) - 1):
                of = sample * outputs + at
                upstream = g_output[of : of + size]
                for k in range(starts[sample], starts[sample + 1]):
                    value, of = input[sample * width + columns[k]], columns[k] * outputs + at
                    sums = g_weight[of : of + size]
                    for i in range(size):
                        sums[i] += value * upstream[i]

    return loop
