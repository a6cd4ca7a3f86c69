"""Loops of :mod:`bsnn_tha.functional.spike_conv`: spikes as bytes, patches in rows and back.

Maps are seen as they lie in memory, channels last: ``[samples, height, width, in]``.
A patch is then ``k`` runs of ``k · in`` neighbours.
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


class Patches(NamedTuple):
    """Sizes of a convolution: which patch of a map belongs to which output."""

    height: int
    width: int
    channels: int
    kernel: int
    stride: int

    @property
    def rows(self) -> int:
        """Patches in a column of a map."""
        return (self.height - self.kernel) // self.stride + 1

    @property
    def columns(self) -> int:
        """Patches in a row of a map."""
        return (self.width - self.kernel) // self.stride + 1

    @property
    def length(self) -> int:
        """Values in a patch."""
        return self.kernel * self.kernel * self.channels


def bytes_of(maps: Tensor) -> Tensor | None:
    """The same whole numbers of 0 to 127, as uint8; None if there are others."""
    innermost = maps.is_contiguous(memory_format=torch.channels_last)
    ordered = maps.detach().permute(0, 2, 3, 1) if innermost else maps.detach()
    whole = _whole(ordered.contiguous(), torch.uint8)
    if whole is None:
        return None
    # Bytes are turned round faster than floats.
    return whole if innermost else whole.permute(0, 2, 3, 1).contiguous()


def signed_bytes_of(weight: Tensor, scale: int) -> Tensor | None:
    """``scale`` times a kernel, as int8; None if these are not whole numbers of −127 to 127."""
    return _whole(weight.detach().contiguous(), torch.int8, scale)


def _whole(tensor: Tensor, dtype: torch.dtype, scale: int = 1) -> Tensor | None:
    values, whole = memory_of(tensor), torch.empty(tensor.shape, dtype=dtype)
    for first, last in ((0, min(tuning.BYTES_TRIED, len(values))), (0, len(values))):
        pieces = -(-(last - first) // tuning.BYTES_RUN)
        others = np.zeros(pieces, np.int64)
        run(
            _bytes_loop,
            (tensor.dtype, dtype),
            (
                values[first:last],
                whole.view(-1)[first:last].numpy(),
                others,
                np.float32(scale),
                tuning.BYTES_RUN,
            ),
            pieces,
            (last - first) // tuning.SPIKE_CONV_THREAD,
        )
        if others.any():
            return None
    return whole


def unfold(maps: Tensor, sizes: Patches, patches: Tensor) -> None:
    """Write the patches of bytes ``[samples, height, width, in]``, one in each row."""
    arguments = maps.view(-1).numpy(), memory_of(patches), *sizes, sizes.rows, sizes.columns
    run(
        _unfold_loop,
        (patches.dtype,),
        arguments,
        len(maps),
        patches.numel() // tuning.SPIKE_CONV_THREAD,
    )


def fold(patches: Tensor, sizes: Patches, maps: Tensor) -> None:
    """Write the sum of all patches where they belong, ``[samples, height, width, in]``."""
    arguments = memory_of(patches), memory_of(maps), *sizes, sizes.rows, sizes.columns
    run(
        _fold_loop,
        (patches.dtype,),
        arguments,
        len(maps),
        patches.numel() // tuning.SPIKE_CONV_THREAD,
    )


# The loops. The dtype is for `run`, which compiles one for each.


def _bytes_loop(dtype: torch.dtype, whole_dtype: torch.dtype) -> Callable[..., None]:
    lowest = -127 if whole_dtype == torch.int8 else 0

    def loop(values, whole, others, scale, length, first, last):  # type: ignore[no-untyped-def]
        for piece in range(first, last):
            source = values[piece * length : (piece + 1) * length]
            target = whole[piece * length : (piece + 1) * length]
            count = 0
            for i in range(len(source)):
                # Not np.uint8 at once: what a NaN becomes is nobody's promise.
                value = widened(source[i]) * scale
                fits = (value >= lowest) & (value <= 127)
                byte = np.int32(value if fits else np.float32(0))
                count += np.float32(byte) != value
                target[i] = byte
            others[piece] = count

    return loop


def _unfold_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(  # type: ignore[no-untyped-def]
        maps, patches, height, width, channels, kernel, stride, rows, columns, first, last
    ):  # fmt: skip
        length = kernel * channels
        for sample in range(first, last):
            begin = sample * height * width * channels
            image = maps[begin : begin + height * width * channels]
            at = sample * rows * columns * kernel * length
            for y in range(rows):
                for x in range(columns):
                    for line in range(kernel):
                        of = ((y * stride + line) * width + x * stride) * channels
                        source, target = image[of : of + length], patches[at : at + length]
                        for i in range(length):
                            target[i] = narrowed(np.float32(source[i]), patches)
                        at += length

    return loop


def _fold_loop(dtype: torch.dtype) -> Callable[..., None]:
    def loop(  # type: ignore[no-untyped-def]
        patches, maps, height, width, channels, kernel, stride, rows, columns, first, last
    ):  # fmt: skip
        length = kernel * channels
        image = np.empty(height * width * channels, np.float32)
        for sample in range(first, last):
            image[:] = 0
            at = sample * rows * columns * kernel * length
            for y in range(rows):
                for x in range(columns):
                    for line in range(kernel):
                        of = ((y * stride + line) * width + x * stride) * channels
                        source, target = patches[at : at + length], image[of : of + length]
                        for i in range(length):
                            target[i] += widened(source[i])
                        at += length
            written = maps[sample * len(image) : (sample + 1) * len(image)]
            for i in range(len(image)):
                written[i] = narrowed(image[i], maps)

    return loop
