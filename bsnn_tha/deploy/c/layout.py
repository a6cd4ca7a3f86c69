"""How bits lie in the C program: spikes and weights as words of 8, 16 or 32 bits.

Spikes of a layer are words at each place of its maps, row by row: channel k is bit k % bits of
word k // bits. A fully connected layer has one place. Weights that meet such words lie the same
way, one word of each output after the other, so that a word of spikes meets all of them in one
loop over neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]
"""Unsigned whole numbers of 8, 16 or 32 bits."""


def word_bits(channels: int) -> int:
    """Length of the words for so many bits: the longest that wastes little.

    That is at most an eighth more than the length that wastes the least.

    Example:
        >>> [word_bits(channels) for channels in (2, 10, 16, 24, 48, 64, 3000)]
        [8, 16, 16, 8, 16, 32, 32]
    """
    taken = {bits: -(-channels // bits) * bits for bits in (32, 16, 8)}
    return max(bits for bits, total in taken.items() if 8 * total <= 9 * min(taken.values()))


def as_words(bits: NDArray[Any], length: int) -> Words:
    """Words of ``length`` bits along the last axis, which is filled up with zeros.

    Example:
        >>> as_words(np.array([[1, 0, 0, 1, 0, 0, 0, 0, 1, 1]]), 8)
        array([[9, 3]], dtype=uint8)
    """
    missing = -bits.shape[-1] % length
    filled = np.pad(bits > 0, (*((0, 0),) * (bits.ndim - 1), (0, missing)))
    packed = np.packbits(filled, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view(f"<u{length // 8}")


def places_last(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """``[..., channels, height, width]`` as ``[..., height, width, channels]``.

    Args:
        values: of neurons; their shape ends in ``shape``.
        shape: ``(channels, height, width)``, or ``(features,)``, which is one place.
    """
    lead = values.shape[: values.ndim - len(shape)]
    if len(shape) == 1:
        return values.reshape(*lead, 1, 1, shape[0])
    return np.moveaxis(values, -3, -1)


def spike_words(spikes: NDArray[Any], shape: tuple[int, ...]) -> Words:
    """Spikes ``[..., *shape]`` as the program has them, ``[..., words of all places]``."""
    words = as_words(places_last(spikes, shape), word_bits(shape[0]))
    return words.reshape(*spikes.shape[: spikes.ndim - len(shape)], -1)


def weights_for_words(weights: NDArray[np.int8]) -> Words:
    """±1 that meet words of spikes, ``[out, in, height, width]`` as ``[taps, words, out]``."""
    out, channels, height, width = weights.shape
    words = as_words(weights.transpose(2, 3, 0, 1), word_bits(channels))
    return words.transpose(0, 1, 3, 2).reshape(height * width, -1, out)


def weights_for_values(weights: NDArray[np.int8]) -> Words:
    """±1 that meet one number at a time, ``[out, in, height, width]`` as ``[taps, in, words]``."""
    out, channels, height, width = weights.shape
    words = as_words(weights.transpose(2, 3, 1, 0), word_bits(out))
    return words.reshape(height * width, channels, -1)
