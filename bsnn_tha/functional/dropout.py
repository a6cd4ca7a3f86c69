r"""Dropout whose mask is a function of a seed and of where a value stands.

Whoever knows the seed can draw any part of the mask at any
time: nothing is kept for the backward pass but the seed, and compiled loops
that compute a current can drop it before it is written
(:mod:`bsnn_tha.functional.sparse_lif`). Compiled, it is also several times as
fast as PyTorch's generator on the CPU, which is serial.

The mask is that of :mod:`bsnn_tha.equations.dropout`.
"""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.equations.dropout import kept
from bsnn_tha.functional.running import plain
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
    seed = draw_seed() if seed is None else seed
    return _masked(input, probability, seed) if plain() else _drop(input, probability, seed)


def _masked(input: Tensor, probability: float, seed: Tensor) -> Tensor:
    """The same in tensor operations."""
    # As nn.Dropout rounds: the mask is divided first.
    columns = input.shape[-1] if input.dim() else 1
    mask = kept(input.numel() // max(columns, 1), columns, probability, int(seed))
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    return (mask.to(wide).div_(1 - probability).view(input.shape) * input).to(input.dtype)


@torch.library.custom_op("bsnn_tha::dropout", mutates_args=())
def _drop(input: Tensor, probability: float, seed: Tensor) -> Tensor:
    masks = _compiled_masks()
    if masks is not None:
        return masks.drop(input, probability, int(seed))
    return _masked(input, probability, seed)


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
