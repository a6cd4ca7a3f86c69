r"""Dropout whose mask is a function of a seed and of where a value stands.

Element ``(row, column)`` of a tensor seen as ``[rows, columns]`` is dropped where

    hash(seed, row, column) < p · 2³²,

a hash of 32 bits. Whoever knows the seed can draw any part of the mask at any
time: nothing is kept for the backward pass but the seed, and compiled loops
that compute a current can drop it before it is written
(:mod:`bsnn_tha.functional.sparse_lif`). Compiled, it is also several times as
fast as PyTorch's generator on the CPU, which is serial.

A row gets 64 bits from the seed and its number by a step of SplitMix64 (Steele,
Lea and Flood 2014). Each column mixes them with its own number in two rounds of
shift, exclusive or and multiply on 32 bits, with constants of little bias
(Wellons 2018, "Prospecting for Hash Functions"): many columns at a time in vector
registers. The two halves of a row's bits go in at different places, so that
no row's mask is another's in another order. :func:`kept` has it in tensor
operations, :mod:`bsnn_tha.kernels.cpu.dropout` compiled.
"""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.functional.transforms import transformed


def draw_seed() -> Tensor:
    """A seed from PyTorch's generator on the CPU: 0-dimensional, int64.

    Example:
        >>> _ = torch.manual_seed(1)
        >>> first = draw_seed()
        >>> _ = torch.manual_seed(1)
        >>> bool(draw_seed() == first)
        True
    """
    return torch.randint(1 << 62, ())


def dropout(input: Tensor, probability: float, seed: Tensor | None = None) -> Tensor:
    """Zeros with a probability, everything else divided by the rest of it.

    As ``nn.functional.dropout``, with masks that are other ones but rounded alike.
    On a GPU, in half precision (float16) and under ``torch.func`` it is that function, and the
    seed is not used.

    Args:
        input: any shape; its last dimension are the columns.
        probability: p in [0, 1].
        seed: from :func:`draw_seed`; a new one if None.

    Example:
        >>> ones, seed = torch.ones(100, 30), draw_seed()
        >>> sorted(set(dropout(ones, 0.5, seed).flatten().tolist()))
        [0.0, 2.0]
        >>> torch.equal(dropout(ones, 0.5, seed), dropout(ones, 0.5, seed))
        True
    """
    own = input.device.type == "cpu" and input.dtype != torch.float16 and not transformed()
    if not own or not 0 < probability < 1:
        return F.dropout(input, probability)
    return _drop(input, probability, draw_seed() if seed is None else seed)


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


@torch.library.custom_op("bsnn_tha::dropout", mutates_args=())
def _drop(input: Tensor, probability: float, seed: Tensor) -> Tensor:
    masks = _compiled_masks()
    if masks is not None:
        return masks.drop(input, probability, int(seed))
    # As nn.Dropout rounds: the mask is divided first.
    columns = input.shape[-1] if input.dim() else 1
    mask = kept(input.numel() // max(columns, 1), columns, probability, int(seed))
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    return (mask.to(wide).div_(1 - probability).view(input.shape) * input).to(input.dtype)


@_drop.register_fake
def _(input: Tensor, probability: float, seed: Tensor) -> Tensor:
    return torch.empty_like(input, memory_format=torch.contiguous_format)


def _save(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, float, Tensor], output: Tensor
) -> None:
    _, ctx.probability, seed = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(seed)


def _differentiate(ctx: torch.autograd.function.FunctionCtx, g_output: Tensor) -> tuple:
    (seed,) = ctx.saved_tensors  # type: ignore[attr-defined]
    return _drop(g_output, ctx.probability, seed), None, None  # type: ignore[attr-defined]


_drop.register_autograd(_differentiate, setup_context=_save)


@functools.cache
def _compiled_masks() -> ModuleType | None:
    """The compiled loops, if numba works here."""
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import dropout as dropout_numba

        dropout_numba.drop(torch.ones(1, 1), 0.5, 0)
    except Exception:
        return None
    return dropout_numba
