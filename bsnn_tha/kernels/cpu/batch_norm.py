"""Loops of :mod:`bsnn_tha.functional.batch_norm`, compiled by numba.

A step is a run of memory in which the channels come round again and again. It is
gone through in pieces of several rounds, so that few channels fill a vector
register as well. Sums of a few hundred values in float32 are added up in float64.

Several steps, each normalised by itself, are shared out to threads, and each stays in the
cache from its statistics to its result. A single one, which may be a whole window,
is cut into parts instead; their number, and so the order of its sums, does not depend on how
many threads there are.

Values may be whole numbers, int16, in a unit of their own: normalised they are the same, with ε in
that unit squared. What is then computed with, float32 or float64, is said beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils
from numba.extending import register_jitable
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import intrinsic, run
from bsnn_tha.kernels.cpu.memory import REALS, memory_of


def forward(
    input: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised ``[steps, rows, channels]``; mean and variance ``[steps, channels]``."""
    steps, rows, channels = input.shape
    output = torch.empty_like(input)
    if steps == 1:
        mean, variance = statistics(input, input.dtype)
        scale, shift = scale_and_shift(weight, bias, mean, variance, eps, input.dtype)
        given = memory_of(input), scale[0], shift[0], memory_of(output)
        _run_parts(_normalise_loop, (input.dtype,), input, given)
        return output, mean, variance
    mean, variance = (torch.empty(steps, channels, dtype=torch.float64) for _ in range(2))
    arguments = (
        memory_of(input),
        _wide(weight),
        _wide(bias),
        eps,
        mean.numpy(),
        variance.numpy(),
        memory_of(output),
        rows * channels,
        channels,
        _rounds(channels),
    )
    run(_forward_loop, (input.dtype,), arguments, steps, input.numel() // tuning.NORM_THREAD)
    return output, mean, variance


def statistics(input: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and variance of every step, float64 ``[steps, channels]``.

    Args:
        input: what is normalised, ``[steps, rows, channels]``.
        dtype: that is computed with.
    """
    steps, rows, channels = input.shape
    if steps > 1:
        mean, variance = (torch.empty(steps, channels, dtype=torch.float64) for _ in range(2))
        arguments = (
            memory_of(input),
            mean.numpy(),
            variance.numpy(),
            np.arange(steps + 1) * rows * channels,
            channels,
            _rounds(channels),
        )
        threads = input.numel() // tuning.NORM_THREAD
        run(_statistics_loop, (dtype, input.dtype), arguments, steps, threads)
        return mean, variance
    parts = _parts(rows)
    means, variances = (np.empty((parts, channels)) for _ in range(2))
    _run_parts(_statistics_loop, (dtype, input.dtype), input, (memory_of(input), means, variances))
    counts = np.diff(_bounds(rows))[:, None] / rows
    mean = (counts * means).sum(0)
    variance = (counts * (variances + (means - mean) ** 2)).sum(0)
    return torch.from_numpy(mean[None]), torch.from_numpy(variance[None])


def scale_and_shift(
    weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Any, Any]:
    """What the values of a piece are multiplied by, and what is added, by each step's statistics.

    ``[steps, values of a piece]``, of this dtype.
    """
    factor = _wide(weight) / np.sqrt(variance.numpy() + eps)
    offset = _wide(bias) - mean.numpy() * factor
    return _tiled(factor, dtype), _tiled(offset, dtype)


def of_all_steps(scale: Tensor, shift: Tensor, dtype: torch.dtype) -> tuple[Any, Any]:
    """The same for a scale and a shift ``[channels]`` that are known, one row."""
    return _tiled(_wide(scale)[None], dtype), _tiled(_wide(shift)[None], dtype)


def _tiled(values: Any, dtype: torch.dtype) -> Any:
    """Of every channel ``[steps, channels]``, for a piece."""
    channels = values.shape[1]
    return np.tile(values, (1, _rounds(channels) // channels)).astype(REALS[dtype])


def backward(
    g_output: Tensor,
    input: Tensor,
    weight: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias; the input's in the dtype of ``g_output``.

    ``dtype`` is computed with.
    """
    steps, rows, channels = input.shape
    g_input = torch.empty_like(g_output)
    dtypes = dtype, input.dtype, g_output.dtype
    if steps == 1:
        given = memory_of(g_output), memory_of(input)
        totals = np.empty((_parts(rows), 2, channels))
        _run_parts(_products_loop, dtypes, input, (*given, mean.numpy()[0], totals))
        sums, products = totals.sum(0)
        spread = variance.numpy()[0] + eps
        factor = _wide(weight) / np.sqrt(spread)
        count = _rounds(channels) // channels
        # As in _backward_loop.
        pieces = (
            np.tile(its, count).astype(REALS[dtype])
            for its in (
                mean.numpy()[0], factor, factor * products / rows / spread, factor * sums / rows
            )
        )  # fmt: skip
        _run_parts(_gradient_loop, dtypes, input, (*given, *pieces, memory_of(g_input)))
        g_weight, g_bias = (torch.from_numpy(its) for its in (products / np.sqrt(spread), sums))
        return g_input, g_weight.to(weight.dtype), g_bias.to(weight.dtype)
    g_weight, g_bias = (torch.empty(steps, channels, dtype=torch.float64) for _ in range(2))
    arguments = (
        memory_of(g_output),
        memory_of(input),
        _wide(weight),
        mean.numpy(),
        variance.numpy(),
        eps,
        memory_of(g_input),
        g_weight.numpy(),
        g_bias.numpy(),
        rows * channels,
        channels,
        _rounds(channels),
    )
    run(_backward_loop, dtypes, arguments, steps, input.numel() // tuning.NORM_THREAD)
    return g_input, g_weight.sum(0).to(weight.dtype), g_bias.sum(0).to(weight.dtype)


def _rounds(channels: int) -> int:
    """Values of a piece: whole rounds of the channels."""
    return channels * -(-tuning.NORM_PIECE // channels)


def _parts(rows: int) -> int:
    """Of a single step."""
    return max(1, min(tuning.NORM_PARTS, rows))


def _bounds(rows: int) -> Any:
    """Rows at which its parts begin and end."""
    parts = _parts(rows)
    return np.array([rows * part // parts for part in range(parts + 1)])


def _run_parts(
    make: Callable[..., Any],
    constants: tuple[Any, ...],
    input: Tensor,
    arguments: tuple[Any, ...],
) -> None:
    _, rows, channels = input.shape
    arguments += _bounds(rows) * channels, channels, _rounds(channels)
    run(make, constants, arguments, _parts(rows), input.numel() // tuning.NORM_THREAD)


def _wide(tensor: Tensor) -> Any:
    return tensor.detach().double().numpy()


@register_jitable
def normalised(value, scale, shift):  # type: ignore[no-untyped-def]
    """A value on its channel's new scale."""
    return widened(value) * scale + shift


@intrinsic
def _multiplied_and_added(context, value, scale, shift):  # type: ignore[no-untyped-def]
    """value · scale + shift, rounded once where the processor does so as fast."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        real, name = values[1].type, f"llvm.fmuladd.f{signature.args[1].bitwidth}"
        call = ir.FunctionType(real, [real] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, call, name), values)

    return scale(scale, scale, scale), build


@register_jitable
def normalised_as_library(value, scale, shift):  # type: ignore[no-untyped-def]
    """The same, to the last bit of PyTorch's batch norm by running statistics."""
    return _multiplied_and_added(widened(value), scale, shift)


# What is done to a run of values, from `begin` to `end`. All arrays are of the values of a piece.


@numba.njit(nogil=True, error_model="numpy")
def _find_statistics(input, begin, end, channels, sums, centre, totals):  # type: ignore[no-untyped-def]
    """Mean and variance of each channel."""
    piece, count = len(sums), (end - begin) // channels
    centre[:] = 0
    # Sums, then of squared distances from the mean.
    for turn in range(2):
        total = totals[turn]
        total[:] = 0
        at = begin
        while at < end:
            sums[:] = 0
            for _ in range(tuning.NORM_FEW):
                length = min(piece, end - at)
                values = input[at : at + length]
                if turn == 0:
                    for i in range(length):
                        sums[i] += widened(values[i])
                else:
                    for i in range(length):
                        distance = widened(values[i]) - centre[i]
                        sums[i] += distance * distance
                at += length
            for i in range(piece):
                total[i % channels] += sums[i]
        for i in range(channels):
            total[i] /= count
        if turn == 0:
            for i in range(piece):
                centre[i] = total[i % channels]


@numba.njit(nogil=True, error_model="numpy")
def _normalise(input, begin, end, scale, shift, output):  # type: ignore[no-untyped-def]
    piece = len(scale)
    for at in range(begin, end, piece):
        length = min(piece, end - at)
        values, target = input[at : at + length], output[at : at + length]
        for i in range(length):
            target[i] = narrowed(normalised(values[i], scale[i], shift[i]), output)


@numba.njit(nogil=True, error_model="numpy")
def _find_products(g_output, input, begin, end, channels, centre, sums, products, totals):  # type: ignore[no-untyped-def]  # fmt: skip
    """Sums of g, and of g times the distance from the mean, of each channel."""
    piece = len(sums)
    totals[:] = 0
    at = begin
    while at < end:
        sums[:] = 0
        products[:] = 0
        for _ in range(tuning.NORM_FEW):
            length = min(piece, end - at)
            values, upstream = input[at : at + length], g_output[at : at + length]
            for i in range(length):
                g = widened(upstream[i])
                sums[i] += g
                products[i] += g * (widened(values[i]) - centre[i])
            at += length
        for i in range(piece):
            totals[0, i % channels] += sums[i]
            totals[1, i % channels] += products[i]


@numba.njit(nogil=True, error_model="numpy")
def _to_input(g_output, input, begin, end, centre, scale, slope, shift, g_input):  # type: ignore[no-untyped-def]  # fmt: skip
    piece = len(scale)
    for at in range(begin, end, piece):
        length = min(piece, end - at)
        values, upstream = input[at : at + length], g_output[at : at + length]
        target = g_input[at : at + length]
        for i in range(length):
            g = scale[i] * widened(upstream[i]) - shift[i]
            g -= slope[i] * (widened(values[i]) - centre[i])
            target[i] = narrowed(g, g_input)


# The loops. What is computed with comes first; the other dtypes are for `run`, which compiles one
# for each.


def _statistics_loop(dtype: torch.dtype, input_dtype: torch.dtype) -> Callable[..., None]:
    real = REALS[dtype]

    def loop(input, means, variances, bounds, channels, piece, first, last):  # type: ignore[no-untyped-def]
        sums, centre = np.empty(piece, real), np.empty(piece, real)
        totals = np.empty((2, channels), np.float64)
        for part in range(first, last):
            begin, end = bounds[part], bounds[part + 1]
            _find_statistics(input, begin, end, channels, sums, centre, totals)
            means[part], variances[part] = totals[0], totals[1]

    return loop


def _normalise_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(input, scale, shift, output, bounds, channels, piece, first, last):  # type: ignore[no-untyped-def]
        for part in range(first, last):
            _normalise(input, bounds[part], bounds[part + 1], scale, shift, output)

    return loop


def _products_loop(
    dtype: torch.dtype, input_dtype: torch.dtype, g_dtype: torch.dtype
) -> Callable[..., None]:
    real = REALS[dtype]

    def loop(g_output, input, mean, totals, bounds, channels, piece, first, last):  # type: ignore[no-untyped-def]
        sums, products = np.empty(piece, real), np.empty(piece, real)
        centre = np.empty(piece, real)
        for i in range(piece):
            centre[i] = mean[i % channels]
        for part in range(first, last):
            begin, end = bounds[part], bounds[part + 1]
            _find_products(
                g_output, input, begin, end, channels, centre, sums, products, totals[part]
            )

    return loop


def _gradient_loop(
    dtype: torch.dtype, input_dtype: torch.dtype, g_dtype: torch.dtype
) -> Callable[..., None]:
    def loop(  # type: ignore[no-untyped-def]
        g_output, input, centre, scale, slope, shift, g_input, bounds, channels, piece, first, last
    ):  # fmt: skip
        for part in range(first, last):
            begin, end = bounds[part], bounds[part + 1]
            _to_input(g_output, input, begin, end, centre, scale, slope, shift, g_input)

    return loop


def _forward_loop(dtype: torch.dtype) -> Callable[..., None]:
    real = REALS[dtype]

    def loop(  # type: ignore[no-untyped-def]
        input, weight, bias, eps, mean, variance, output, size, channels, piece, first, last
    ):  # fmt: skip
        sums, centre = np.empty(piece, real), np.empty(piece, real)
        scale, shift = np.empty(piece, real), np.empty(piece, real)
        totals = np.empty((2, channels), np.float64)
        for step in range(first, last):
            begin, end = step * size, (step + 1) * size
            _find_statistics(input, begin, end, channels, sums, centre, totals)
            mean[step], variance[step] = totals[0], totals[1]
            for i in range(piece):
                c = i % channels
                factor = weight[c] / np.sqrt(totals[1, c] + eps)
                scale[i] = factor
                shift[i] = bias[c] - totals[0, c] * factor
            _normalise(input, begin, end, scale, shift, output)

    return loop


def _backward_loop(
    dtype: torch.dtype, input_dtype: torch.dtype, g_dtype: torch.dtype
) -> Callable[..., None]:
    real = REALS[dtype]

    def loop(  # type: ignore[no-untyped-def]
        g_output, input, weight, mean, variance, eps, g_input, g_weight, g_bias,
        size, channels, piece, first, last,
    ):  # fmt: skip
        sums, products = np.empty(piece, real), np.empty(piece, real)
        centre, scale = np.empty(piece, real), np.empty(piece, real)
        slope, shift = np.empty(piece, real), np.empty(piece, real)
        totals = np.empty((2, channels), np.float64)
        count = size // channels
        for step in range(first, last):
            begin, end = step * size, (step + 1) * size
            for i in range(piece):
                centre[i] = mean[step, i % channels]
            _find_products(g_output, input, begin, end, channels, centre, sums, products, totals)
            for i in range(channels):
                g_bias[step, i] = totals[0, i]
                g_weight[step, i] = totals[1, i] / np.sqrt(variance[step, i] + eps)
            # g_input = scale · (g − mean of g − (x − mean) · mean of g (x − mean) / variance)
            for i in range(piece):
                c = i % channels
                factor = weight[c] / np.sqrt(variance[step, c] + eps)
                scale[i] = factor
                slope[i] = factor * totals[1, c] / count / (variance[step, c] + eps)
                shift[i] = factor * totals[0, c] / count
            _to_input(g_output, input, begin, end, centre, scale, slope, shift, g_input)

    return loop
