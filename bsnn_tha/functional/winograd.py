r"""Gradients of 3 × 3 convolutions by Winograd's algorithm: a quarter of the multiplications.

Of a row of outputs four at a time are computed from six inputs with six multiplications instead of
twelve, y = Aᵀ[(G w) ⊙ (Bᵀ x)], F(4, 3) of Lavin and Gray (2016, "Fast algorithms for convolutional
neural networks"). In both directions of a map those are 36 instead of 144 for 4 × 4 outputs. The
input's gradient is such a convolution, of the gradient of the maps with the kernel turned round.
The weights' gradient is that of the equation itself, summed over tiles:

    g_w = Gᵀ[(A g_y Aᵀ) ⊙ (Bᵀ x B)]G.

Sums are in another order than in a plain convolution, and their rounding errors are larger: some
10⁻⁵ of the largest value. Average pooling behind the convolution spreads its gradient over the
places that were averaged, while tiles are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bsnn_tha.kernels import tuning

_KERNEL = 3


def takes(weight: Tensor, stride: int, padding: int) -> bool:
    """Whether a convolution's gradients can be computed so."""
    outputs, channels, kernel, _ = weight.shape
    whole = outputs % tuning.CONV_VECTOR == 0 and channels % tuning.CONV_VECTOR == 0
    return kernel == _KERNEL and stride == 1 and padding < _KERNEL and whole


def input_gradient(
    g_maps: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    padding: int,
    pool: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Gradient of a convolution's input, ``[samples, height, width, in]``.

    Args:
        g_maps: gradient of the result, ``[samples, rows, columns, out]``.
        weight: float32 ``[out, in, 3, 3]``.
        shape: of the input, as above.
        padding: 0 to 2.
        pool: size p of the pooling behind it.
        dtype: of the gradient.
    """
    loops = _loops()
    kernels = weight.permute(2, 3, 0, 1).contiguous()
    g_maps, g_input = g_maps.contiguous(), g_maps.new_empty(tuple(shape), dtype=dtype)
    for some, tiles in _groups(*shape[:3]):
        loops.input_gradient(g_maps[some], kernels, padding, pool, tiles, g_input[some])
    return g_input


def weight_gradient(g_maps: Tensor, maps: Tensor, padding: int, pool: int = 1) -> Tensor:
    """Gradient of the weights, float32 ``[out, in, 3, 3]``.

    Args:
        g_maps: gradient of the result, ``[samples, rows, columns, out]``.
        maps: the input as bytes, ``[samples, height, width, in]``.
        padding: 0 to 2.
        pool: size p of the pooling behind it.
    """
    loops, g_maps = _loops(), g_maps.contiguous()
    samples, rows, columns, outputs = g_maps.shape
    g_weights = torch.zeros(_KERNEL, _KERNEL, outputs, maps.shape[3])
    for some, tiles in _groups(samples, pool * rows, pool * columns):
        loops.add_weight_gradient(g_maps[some], maps[some], padding, pool, tiles, g_weights)
    return g_weights.permute(2, 3, 0, 1).contiguous()


def _groups(samples: int, rows: int, columns: int) -> Iterator[tuple[slice, Any]]:
    """Samples that are worked on together, and their tiles."""
    tiles = _loops().Tiles
    together = max(1, tuning.WINOGRAD_TILES // tiles.of(1, rows, columns).total)
    for first in range(0, samples, together):
        some = slice(first, min(first + together, samples))
        yield some, tiles.of(some.stop - first, rows, columns)


def _loops() -> Any:
    # Imports numba, which was seen to work when the spikes became bytes.
    from bsnn_tha.kernels.cpu import winograd as loops

    return loops
