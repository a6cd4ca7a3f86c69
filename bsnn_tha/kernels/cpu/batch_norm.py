"""Loops of :mod:`bsnn_tha.functional.batch_norm`, compiled by numba.

A step is a run of memory in which the channels come round again and again. It is
gone through in pieces of several rounds, so that few channels fill a vector
register as well. Sums of a few hundred values in float32 are added up in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, widened
from bsnn_tha.kernels.cpu.compiled import run


def forward(
    input: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised ``[steps, rows, channels]``; mean and variance ``[steps, channels]``."""
    steps, rows, channels = input.shape
    output = torch.empty_like(input)
    mean, variance = (torch.empty(steps, channels, dtype=torch.float64) for _ in range(2))
    arguments = (
        _memory(input),
        _wide(weight),
        _wide(bias),
        eps,
        mean.numpy(),
        variance.numpy(),
        _memory(output),
        rows * channels,
        channels,
        _rounds(channels),
    )
    run(_forward_loop, (input.dtype,), arguments, steps, input.numel() // tuning.NORM_THREAD)
    return output, mean, variance


def backward(
    g_output: Tensor, input: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias."""
    steps, rows, channels = input.shape
    g_input = torch.empty_like(input)
    g_weight, g_bias = (torch.empty(steps, channels, dtype=torch.float64) for _ in range(2))
    arguments = (
        _memory(g_output),
        _memory(input),
        _wide(weight),
        mean.numpy(),
        variance.numpy(),
        eps,
        _memory(g_input),
        g_weight.numpy(),
        g_bias.numpy(),
        rows * channels,
        channels,
        _rounds(channels),
    )
    run(_backward_loop, (input.dtype,), arguments, steps, input.numel() // tuning.NORM_THREAD)
    return g_input, g_weight.sum(0).to(weight.dtype), g_bias.sum(0).to(weight.dtype)


def _rounds(channels: int) -> int:
    """Values of a piece: whole rounds of the channels."""
    return channels * -(-tuning.NORM_PIECE // channels)


def _wide(tensor: Tensor) -> Any:
    return tensor.detach().double().numpy()


def _memory(window: Tensor) -> Any:
    flat = window.detach().reshape(-1)
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()


# The loops. `real` is what values are computed with.


def _real(dtype: torch.dtype) -> Any:
    return np.float64 if dtype == torch.float64 else np.float32


def _forward_loop(dtype: torch.dtype) -> Callable[..., None]:
    real = _real(dtype)
    few = tuning.NORM_FEW

    def loop(  # type: ignore[no-untyped-def]
        input, weight, bias, eps, mean, variance, output, size, channels, piece, first, last
    ):  # fmt: skip
        sums, centre = np.empty(piece, real), np.empty(piece, real)
        scale, shift = np.empty(piece, real), np.empty(piece, real)
        totals = np.empty((2, channels), np.float64)
        count = size // channels
        for step in range(first, last):
            begin, end = step * size, (step + 1) * size
            centre[:] = 0
            # Sums, then of squared distances from the mean.
            for turn in range(2):
                total = totals[turn]
                total[:] = 0
                at = begin
                while at < end:
                    sums[:] = 0
                    for _ in range(few):
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
            for i in range(channels):
                mean[step, i], variance[step, i] = totals[0, i], totals[1, i]
            for i in range(piece):
                c = i % channels
                factor = weight[c] / np.sqrt(totals[1, c] + eps)
                scale[i] = factor
                shift[i] = bias[c] - totals[0, c] * factor
            for at in range(begin, end, piece):
                length = min(piece, end - at)
                values, target = input[at : at + length], output[at : at + length]
                for i in range(length):
                    target[i] = narrowed(real(widened(values[i]) * scale[i] + shift[i]), output)

    return loop


def _backward_loop(dtype: torch.dtype) -> Callable[..., None]:
    real = _real(dtype)
    few = tuning.NORM_FEW

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
            totals[:] = 0
            at = begin
            while at < end:
                sums[:] = 0
                products[:] = 0
                for _ in range(few):
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
            for at in range(begin, end, piece):
                length = min(piece, end - at)
                values, upstream = input[at : at + length], g_output[at : at + length]
                target = g_input[at : at + length]
                for i in range(length):
                    g = scale[i] * widened(upstream[i]) - shift[i]
                    g -= slope[i] * (widened(values[i]) - centre[i])
                    target[i] = narrowed(real(g), g_input)

    return loop
