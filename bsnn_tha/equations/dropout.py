r"""Which values dropout drops: a mask that is a function of a seed and of where a value stands.

Element ``(row, column)`` of a tensor seen as ``[rows, columns]`` is dropped where

    hash(seed, row, column) < p · 2³²,

a hash of 32 bits.

A row gets 64 bits from the seed and its number by a step of SplitMix64 (Steele,
Lea and Flood 2014). Each column mixes them with its own number in two rounds of
shift, exclusive or and multiply on 32 bits, with constants of little bias
(Wellons 2018, "Prospecting for Hash Functions"): many columns at a time in vector
registers. The two halves of a row's bits go in at different places, so that
no row's mask is another's in another order. Compiled it is in
:mod:`bsnn_tha.kernels.cpu.dropout`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kept(rows: int, columns: int, probability: float, seed: int) -> Tensor:
    """The mask, bool ``[rows, columns]``, in tensor operations.

    Example:
        >>> round(kept(200, 300, 0.25, seed=1).float().mean().item(), 2)
        0.75
    """
    # int64 stands for uint64: products wrap around alike, shifts must not copy the sign.
    z = seed + torch.arange(1, rows + 1) * _signed(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ _shifted(z, shift)) * _signed(factor)
    z = (z ^ _shifted(z, 31))[:, None]
    h = torch.arange(columns) ^ (z & _LOW)
    h = (((h ^ (h >> 16)) * 0x7FEB352D) & _LOW) ^ _shifted(z, 32)
    h = ((h ^ (h >> 15)) * 0x846CA68B) & _LOW
    return h >= limit(probability)


def limit(probability: float) -> int:
    """Hashes below it are dropped."""
    return min(round(probability * 2**32), 2**32 - 1)


_LOW = (1 << 32) - 1


def _signed(number: int) -> int:
    """The int64 of the same 64 bits."""
    return number - (1 << 64)


def _shifted(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)
